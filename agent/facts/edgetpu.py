"""Coral Edge TPUs on USB and PCIe, and the installed libedgetpu.

USB: 1a6e:089a before its firmware is loaded, 18d1:9302 after; ``speed`` in Mbit/s decides the
latency: 480 is USB 2, 5000 USB 3. PCIe: 1ac1:089a, driver apex (``/sys/class/apex``).
"""

from __future__ import annotations

from pathlib import Path

from agent.contract.device import Accelerator
from agent.facts import packages, pci
from agent.system import files

_USB = {"1a6e:089a": "not loaded", "18d1:9302": "loaded"}
_PCI = ("1ac1", "089a")


def accelerators(root: Path) -> list[Accelerator]:
    """Every Edge TPU, those on PCIe first."""
    return _on_pci(root) + _on_usb(root)


def _on_pci(root: Path) -> list[Accelerator]:
    apex = [path.name for path in files.entries(root, "sys/class/apex/apex_*")]
    found = [d for d in pci.devices(root) if (d.vendor, d.device) == _PCI]
    if not found:
        return [Accelerator("edgetpu", "Coral Edge TPU", "pci", {"driver": "apex"}) for _ in apex]
    return [
        Accelerator(
            "edgetpu",
            "Coral Edge TPU",
            "pci",
            {"slot": device.slot, "driver": device.driver or "none"},
        )
        for device in found
    ]


def _on_usb(root: Path) -> list[Accelerator]:
    found = []
    for device in files.entries(root, "sys/bus/usb/devices/*"):
        ids = f"{files.text(device / 'idVendor')}:{files.text(device / 'idProduct')}".lower()
        if ids in _USB:
            detail = {"firmware": _USB[ids], "usb_mbps": files.text(device / "speed")}
            detail = {key: value for key, value in detail.items() if value}
            found.append(Accelerator("edgetpu", "Coral USB Accelerator", "usb", detail))
    return found


def version(root: Path) -> str | None:
    """Version of libedgetpu, ``16.0 (std)``: the package decides on standard or maximum clock."""
    found = packages.installed(root, r"libedgetpu1-(?:std|max)")
    return ", ".join(f"{v} ({p.rpartition('-')[2]})" for p, v in sorted(found.items())) or None
