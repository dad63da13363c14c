"""The power mode: a Jetson's ``nvpmodel``, a laptop's platform profile, else the clock governor."""

from __future__ import annotations

from pathlib import Path

from agent.contract.power_modes import current_mode, modes_of
from agent.system import commands, files
from agent.system.devicetree import is_jetson
from agent.system.errors import Unreadable

_PROFILE = "sys/firmware/acpi/platform_profile"
_GOVERNOR = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
_GOVERNORS = "sys/devices/system/cpu/cpu0/cpufreq/scaling_available_governors"


def current(root: Path) -> str | None:
    """The current mode, such as ``15W``, ``balanced``, ``schedutil``; ``None``: there is no choice.

    Raises ``Unreadable``: nvpmodel is missing or fails.
    """
    if is_jetson(root):
        tool = commands.find(root, "nvpmodel")
        if tool is None:
            raise Unreadable("nvpmodel is not installed")
        told = commands.told([tool, "-q"])
        try:  # some releases end with an error where only the fan's mode is not set
            return parse_query(told.out)
        except Unreadable:
            told.require()
            raise
    return files.text(root / _PROFILE) or files.text(root / _GOVERNOR) or None


def available(root: Path) -> tuple[str, ...]:
    """Every mode, a Jetson's in the order of their numbers. Raises ``Unreadable``."""
    if is_jetson(root):
        return parse_config(_config(root))
    profiles = files.text(root / f"{_PROFILE}_choices")
    return tuple((profiles or files.text(root / _GOVERNORS)).split())


def parse_query(text: str) -> str:
    """Parse ``nvpmodel -q``: ``NV Power Mode: MAXN`` among warnings and the fan's mode.

    Raises ``Unreadable``.
    """
    mode = current_mode(text)
    if not mode:
        raise Unreadable(f"nvpmodel -q says {text.strip()[:60]!r}")
    return mode


def parse_config(text: str) -> tuple[str, ...]:
    """Parse nvpmodel.conf: ``< POWER_MODEL ID=0 NAME=MAXN >``. Raises ``Unreadable``."""
    numbers = modes_of(text)
    if not numbers:
        raise Unreadable("nvpmodel.conf names no POWER_MODEL")
    return tuple(sorted(numbers, key=lambda mode: numbers[mode]))


def _config(root: Path) -> str:
    text = files.text(root / "etc/nvpmodel.conf")
    if text:
        return text
    boards = files.entries(root, "etc/nvpmodel/*.conf")
    if len(boards) != 1:
        raise Unreadable(
            f"there is no /etc/nvpmodel.conf, and /etc/nvpmodel has {len(boards)} files"
        )
    return files.text(boards[0])
