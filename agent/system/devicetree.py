"""The device tree's ``compatible``: names of the board and of its chip, most specific first."""

from __future__ import annotations

import re
from pathlib import Path

from agent.system import files

_FOLDERS = ("proc/device-tree", "sys/firmware/devicetree/base")


def compatible(root: Path) -> list[str]:
    """The names, such as ``["nvidia,p3767-0005", "nvidia,tegra234"]``; empty without a device tree.

    The strings end in NUL; in a copy of a board's files they end in a newline.
    """
    for folder in _FOLDERS:
        names = re.split(r"[\0\n]", files.text(root / folder / "compatible"))
        if any(names):
            return [name.strip() for name in names if name.strip()]
    return []


def nodes(root: Path, pattern: str) -> list[Path]:
    """Nodes of the device tree, e.g. ``host1x*/nvdla*``."""
    found = (files.entries(root, f"{folder}/{pattern}") for folder in _FOLDERS)
    return next(filter(None, found), [])


def is_jetson(root: Path) -> bool:
    """Whether there is NVIDIA's release file, or a Tegra chip in the device tree."""
    return (root / "etc/nv_tegra_release").exists() or any(
        re.match(r"nvidia,tegra\d", name) for name in compatible(root)
    )
