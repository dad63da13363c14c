"""The kinds of scenario that this release can run: the file names in ``agent/runner/scenarios``.

The controller checks sweeps against these names. It must not import the loops themselves, which
need NumPy and belong to the measured child, so the folder is listed and nothing in it imported.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Tuple

from agent.contract.trial import Scenario

_FOLDER = Path(__file__).parent.parent / "runner" / "scenarios"

SCENARIO_KINDS: Tuple[str, ...] = tuple(
    sorted(
        (module.name for module in pkgutil.iter_modules([str(_FOLDER)])),
        key=lambda kind: (kind != Scenario.kind, kind),
    )
)
"""The default kind first, then the others by name."""
