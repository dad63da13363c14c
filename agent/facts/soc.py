"""The system on a chip, from the device tree: absent on a PC."""

from __future__ import annotations

from pathlib import Path

from agent.system import devicetree


def soc(root: Path) -> str | None:
    """The chip, such as ``tegra234`` or ``bcm2712``: the last, most general name of the board's
    ``compatible``."""
    names = devicetree.compatible(root)
    return names[-1].rpartition(",")[2] if names else None
