"""The device's memory, and free disk space in the agent's state folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from agent.system.errors import Unreadable


def total_mib(root: Path) -> float:
    """``MemTotal`` of ``/proc/meminfo``: what the kernel manages, less than is installed."""
    for line in (root / "proc/meminfo").read_text("ascii", "replace").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) / 1024
    raise Unreadable("/proc/meminfo has no MemTotal")


def free_mib(state_dir: Path) -> float:
    """Space that this user may still fill on the folder's file system."""
    folder = state_dir
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / (1 << 20)
