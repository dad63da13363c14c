"""The disk on which the agent keeps its state.

``/proc/self/mountinfo`` says which file system the folder is on, ``/sys/class/block`` which disk is
under it; encrypted, logical and RAID volumes are followed down to it (``slaves``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from agent.contract.device import Storage
from agent.system import files
from agent.system.errors import Unreadable

_MIB = 1 << 20
_SECTOR = 512
"""Unit of ``size`` in bytes, whatever the disk's own sector size."""
_VIRTUAL = re.compile(r"(vd|xvd|loop|zram|ram|nbd|pmem)")
_VIRTUAL_MAKERS = ("qemu", "google", "vmware", "vbox", "msft", "virtual", "amazon")


class Mount(NamedTuple):
    """A line of mountinfo: ``device`` is ``8:1``, ``source`` is ``/dev/sda1`` or a name."""

    device: str
    point: str
    kind: str
    source: str


def parse_mounts(text: str) -> list[Mount]:
    """Parse ``/proc/self/mountinfo`` (proc(5)); other lines are left out."""
    found = []
    for line in text.splitlines():
        first, dash, second = line.partition(" - ")
        fields, after = first.split(" "), second.split(" ")
        if dash and len(fields) >= 6 and len(after) >= 2:
            found.append(Mount(fields[2], _unescaped(fields[4]), after[0], _unescaped(after[1])))
    return found


def storage(root: Path, folder: Path) -> Storage:
    """The disk under ``folder``, or under its nearest existing parent. Raises ``Unreadable``.

    A file system without a disk (memory, network) is ``virtual``, its size 0.
    """
    while not folder.exists():
        folder = folder.parent
    mounts = parse_mounts(files.text(root / "proc/self/mountinfo"))
    fitting = [m for m in mounts if folder.resolve().is_relative_to(m.point)]
    if not fitting:
        raise Unreadable("/proc/self/mountinfo names no file system for the state folder")
    # Where several are mounted on one folder the last one counts.
    mount = max(enumerate(fitting), key=lambda item: (len(item[1].point), item[0]))[1]
    block = _block(root, mount)
    if block is None:
        return Storage(mount.source or mount.kind, "virtual", 0.0)
    disk = _disk(block)
    sectors = files.number(disk / "size")
    model = files.text(disk / "device/model") or files.text(disk / "device/name")
    return Storage(f"{disk.name} {model}".strip(), _kind(disk), (sectors or 0.0) * _SECTOR / _MIB)


def _block(root: Path, mount: Mount) -> Path | None:
    """The block device of a mount, below ``/sys``; ``None``: it has none."""
    for path in (
        root / "sys/dev/block" / mount.device,
        root / "sys/class/block" / Path(mount.source).name,  # btrfs has a device number of its own
    ):
        if path.name and path.exists():
            return path.resolve()
    return None


def _disk(block: Path) -> Path:
    """The whole disk under a partition or a mapped volume."""
    for _ in range(8):
        below = files.entries(block, "slaves/*")
        if (block / "partition").exists():
            block = block.parent
        elif below:
            block = below[0].resolve()
        else:
            break
    return block


def _kind(disk: Path) -> str:
    name = disk.name
    if name.startswith("nvme"):
        return "nvme"
    if name.startswith("mmcblk"):
        return {"MMC": "emmc", "SD": "sd"}.get(files.text(disk / "device/type"), "")
    maker = f"{files.text(disk / 'device/vendor')} {files.text(disk / 'device/model')}".lower()
    if _VIRTUAL.match(name) or any(word in maker for word in _VIRTUAL_MAKERS):
        return "virtual"
    return {"0": "ssd", "1": "hdd"}.get(files.text(disk / "queue/rotational"), "")


def _unescaped(text: str) -> str:
    r"""Decode octal escapes: a blank is written ``\040``."""
    return re.sub(r"\\([0-3][0-7]{2})", lambda octal: chr(int(octal[1], 8)), text)
