"""Where the runtimes' interpreters are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
OWN = ("onnxruntime", "openvino")
"""Runtimes of this very interpreter."""


def interpreter(name: str) -> str | None:
    """``BENCHFARM_NAME_PYTHON``, else ``.venv-name`` beside the sources; none where there is
    neither."""
    if name in OWN:
        return sys.executable
    named = os.environ.get(f"BENCHFARM_{name.upper()}_PYTHON")
    path = Path(named) if named else ROOT / f".venv-{name}" / "bin" / "python"
    return str(path) if path.exists() else None


def needed(name: str) -> str:
    """Raises ``Missing``."""
    found = interpreter(name)
    if found is None:
        raise Missing(
            f"there is no .venv-{name} beside the sources (make builds it); "
            f"BENCHFARM_{name.upper()}_PYTHON may name another interpreter"
        )
    return found


class Missing(Exception):
    """What a benchmark needs is not here; it is left out."""
