"""The board's own name, from the device tree (ARM) or DMI (PC)."""

from __future__ import annotations

from pathlib import Path

from agent.system.errors import Unreadable

_DEVICE_TREE = ("proc/device-tree/model", "sys/firmware/devicetree/base/model")
_DMI = "sys/class/dmi/id"
_EMPTY = {"", "default string", "to be filled by o.e.m.", "system product name", "none"}


def model(root: Path) -> str:
    """The name, such as ``NVIDIA Jetson Orin Nano Developer Kit``. Raises ``Unreadable``."""
    for name in _DEVICE_TREE:
        text = _read(root / name)
        if text:
            return text
    vendor, product = (_read(root / _DMI / name) for name in ("sys_vendor", "product_name"))
    named = [part for part in (vendor, product) if part.lower() not in _EMPTY]
    if not named:
        raise Unreadable("neither a device tree nor DMI names the board")
    return " ".join(named)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""
