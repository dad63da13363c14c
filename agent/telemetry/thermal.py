"""The kernel's thermal zones."""

from __future__ import annotations

from pathlib import Path


def hottest_c(root: Path = Path("/")) -> float | None:
    """The hottest zone, degrees Celsius; ``None`` where the kernel shows none."""
    found = []
    for path in sorted(root.glob("sys/class/thermal/thermal_zone*/temp")):
        try:
            found.append(int(path.read_text("ascii").strip()) / 1000)
        except (OSError, ValueError):
            continue
    return max(found, default=None)
