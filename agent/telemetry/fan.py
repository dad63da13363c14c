"""Fan speeds: ``hwmon*/fan*_input``, and ``rpm`` of a Jetson's tachometer."""

from __future__ import annotations

from pathlib import Path

from agent.contract.device import Sensor
from agent.system import files

name = "fan"


def read(root: Path) -> list[Sensor]:
    """Every fan that gives its speed, in rpm; 0: it stands still."""
    folder = "sys/class/hwmon/hwmon*"
    paths = files.entries(root, f"{folder}/fan*_input") + files.entries(root, f"{folder}/rpm")
    return [
        Sensor(name, f"{_chip(path)} {path.name.removesuffix('_input')}", "rpm", value)
        for path in paths
        if (value := files.optional(path)) is not None
    ]


def _chip(path: Path) -> str:
    """The number in ``hwmon4`` changes from boot to boot; the chip's name does not."""
    return files.text(path.parent / "name") or path.parent.name
