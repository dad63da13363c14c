"""Where the runtimes' interpreters are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
OWN = ("onnxruntime", "openvino")
"""Runtimes of this very interpreter."""


class Missing(Exception):
    """What a benchmark needs is not here; it is left out."""


def needed(name: str) -> str:
    """The interpreter of a runtime: ``BENCHFARM_NAME_PYTHON``, else ``.venv-name`` beside the
    sources. Raises ``Missing``."""
    if name in OWN:
        return sys.executable
    variable = f"BENCHFARM_{name.upper()}_PYTHON"
    path = os.environ.get(variable) or str(ROOT / f".venv-{name}" / "bin" / "python")
    if not os.access(path, os.X_OK):
        raise Missing(f"there is no {path}; {variable} may name another interpreter")
    return path
