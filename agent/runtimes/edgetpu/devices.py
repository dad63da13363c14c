"""Edge TPUs in sysfs, and which build of libedgetpu is installed.

PCIe: ``/sys/class/apex/apex_N``. USB: ids 1a6e:089a before the accelerator's firmware is loaded and
18d1:9302 afterwards; ``speed`` in Mbit/s is 480 (USB 2) or 5000 (USB 3), which changes latency
tenfold.
"""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple

from agent.contract.failures import BadOption

LAYOUTS = "layouts.json"
"""File beside a compiled artifact: the layouts of its inputs and outputs before compilation."""

_USB_IDS = (("1a6e", "089a"), ("18d1", "9302"))
_USB_NAMES = {"480": "USB 2", "5000": "USB 3"}
_BUILDS = ("std", "max")


class EdgeTpu(NamedTuple):
    """A device. ``address`` is the delegate's name for it: ``pci:0``, ``usb:0``."""

    address: str
    description: str


def devices(root: Path = Path("/")) -> List[EdgeTpu]:
    """All devices, PCIe first, each kind by name; target ``edgetpu:N`` is the N-th."""
    apex = _sorted(root / "sys/class/apex", "apex_*")
    found = [EdgeTpu("pci:%d" % n, "PCIe, %s" % path.name) for n, path in enumerate(apex)]
    usb = [path for path in _sorted(root / "sys/bus/usb/devices", "*") if _is_edgetpu(path)]
    return found + [EdgeTpu("usb:%d" % n, _speed(path)) for n, path in enumerate(usb)]


def _sorted(folder: Path, pattern: str) -> List[Path]:
    # apex_10 after apex_9
    return sorted(folder.glob(pattern), key=lambda path: (len(path.name), path.name))


def _is_edgetpu(path: Path) -> bool:
    return (_text(path / "idVendor"), _text(path / "idProduct")) in _USB_IDS


def _speed(path: Path) -> str:
    speed = _text(path / "speed")
    if not speed:
        return "USB, speed unknown"
    return "%s, %s Mbit/s" % (_USB_NAMES.get(speed, "USB"), speed)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip().lower()
    except OSError:
        return ""


def installed_build(root: Path = Path("/")) -> str:
    """``std`` or ``max``, from Debian's package, or ``unknown``: the library does not tell."""
    info = root / "var/lib/dpkg/info"
    found = [b for b in _BUILDS if list(info.glob("libedgetpu1-%s*.list" % b))]
    return found[0] if len(found) == 1 else "unknown"


def require_build(wanted: str, installed: str) -> None:
    """Raises ``BadOption`` where another clock is wanted than that of the installed build."""
    if wanted not in ("installed", installed):
        raise BadOption(
            "edgetpu option frequency is %s, but the installed libedgetpu is the %s build; the"
            " clock is chosen by the package: install libedgetpu1-%s" % (wanted, installed, wanted)
        )
