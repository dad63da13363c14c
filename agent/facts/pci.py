"""Devices on the PCI bus, by their ``uevent``; names from ``pci.ids`` where there is one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from agent.system import files

_NAMES = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids")


class PciDevice(NamedTuple):
    """``slot``: ``0000:00:02.0``; ``vendor`` and ``device`` as four small hex digits; ``kind`` the
    class's first four; ``driver`` empty: none is bound."""

    slot: str
    vendor: str
    device: str
    kind: str
    driver: str


def devices(root: Path) -> list[PciDevice]:
    """All that say what they are."""
    found = []
    for folder in sorted(root.glob("sys/bus/pci/devices/*")):
        parsed = parse_uevent(folder.name, files.text(folder / "uevent"))
        if parsed is not None:
            found.append(parsed)
    return found


def parse_uevent(slot: str, text: str) -> PciDevice | None:
    """``PCI_ID=8086:9A49``, ``PCI_CLASS=30000``, ``DRIVER=i915``; none for other text."""
    entries = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    ids = re.fullmatch(r"([0-9A-Fa-f]{1,4}):([0-9A-Fa-f]{1,4})", entries.get("PCI_ID", ""))
    kind = entries.get("PCI_CLASS", "")
    if ids is None or not re.fullmatch(r"[0-9A-Fa-f]{1,6}", kind):
        return None
    vendor, device = (part.lower().zfill(4) for part in ids.groups())
    return PciDevice(slot, vendor, device, kind.lower().zfill(6)[:4], entries.get("DRIVER", ""))


def name(root: Path, device: PciDevice, otherwise: str) -> str:
    """As ``pci.ids`` has it, else ``otherwise`` with the numbers."""
    for path in _NAMES:
        found = parse_ids(files.text(root / path), device.vendor, device.device)
        if found:
            return found
    return f"{otherwise} {device.vendor}:{device.device}"


def parse_ids(text: str, vendor: str, device: str) -> str:
    r"""A vendor's line, its devices' lines after it indented by one tab (pci.ids' own head)."""
    _, _, after = f"\n{text}".partition(f"\n{vendor}  ")
    for line in after.split("\n")[1:]:
        if line.startswith(f"\t{device}  "):
            return line[1:].partition("  ")[2].strip()
        if line and line[0] not in "\t#":
            break
    return ""
