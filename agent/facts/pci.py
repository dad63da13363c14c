"""Devices on the PCI bus, by their ``uevent``; names from ``pci.ids`` where there is one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from agent.system import files

_NAMES = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids")


class PciDevice(NamedTuple):
    """``slot``: ``0000:00:02.0``; ``vendor`` and ``device``: four lower-case hex digits;
    ``kind``: the first four of the class; ``driver``: empty where none is bound."""

    slot: str
    vendor: str
    device: str
    kind: str
    driver: str


def devices(root: Path) -> list[PciDevice]:
    """Every device whose ``uevent`` has its numbers."""
    found = []
    for folder in sorted(root.glob("sys/bus/pci/devices/*")):
        parsed = parse_uevent(folder.name, files.text(folder / "uevent"))
        if parsed is not None:
            found.append(parsed)
    return found


def parse_uevent(slot: str, text: str) -> PciDevice | None:
    """Parse ``PCI_ID=8086:9A49``, ``PCI_CLASS=30000``, ``DRIVER=i915``; ``None`` for other text."""
    entries = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    ids = re.fullmatch(r"([0-9A-Fa-f]{1,4}):([0-9A-Fa-f]{1,4})", entries.get("PCI_ID", ""))
    kind = entries.get("PCI_CLASS", "")
    if ids is None or not re.fullmatch(r"[0-9A-Fa-f]{1,6}", kind):
        return None
    vendor, device = (part.lower().zfill(4) for part in ids.groups())
    return PciDevice(slot, vendor, device, kind.lower().zfill(6)[:4], entries.get("DRIVER", ""))


def name(root: Path, device: PciDevice, otherwise: str) -> str:
    """The device's name in ``pci.ids``, else ``otherwise`` with the numbers."""
    for path in _NAMES:
        found = parse_ids(files.text(root / path), device.vendor, device.device)
        if found:
            return found
    return f"{otherwise} {device.vendor}:{device.device}"


def parse_ids(text: str, vendor: str, device: str) -> str:
    r"""The device's name; empty: not listed. A vendor's line comes before those of its devices,
    which are indented by one tab (the format is described at the head of ``pci.ids``)."""
    _, _, after = f"\n{text}".partition(f"\n{vendor}  ")
    for line in after.split("\n")[1:]:
        if line.startswith(f"\t{device}  "):
            return line[1:].partition("  ")[2].strip()
        if line and line[0] not in "\t#":
            break
    return ""
