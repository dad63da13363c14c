"""An interpreter that has what this one has, but for some packages: a board with fewer tools."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path


def interpreter_without(folder: Path, *packages: str) -> Path:
    """A virtual environment below ``folder`` with links to every package of this one's, less
    ``packages`` and their metadata; its interpreter."""
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(command, check=True, timeout=120)
    python = folder / "bin" / "python"
    inside = next(folder.glob("lib/python*/site-packages"))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        name = entry.name.split("-")[0]
        if name not in packages and not (inside / entry.name).exists():
            (inside / entry.name).symlink_to(entry)
    return python
