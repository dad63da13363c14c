"""The processor's caches, from ``/sys/devices/system/cpu/cpu*/cache/index*``."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from agent.contract.device import Cache
from agent.system import files
from agent.system.errors import Unreadable

_UNITS = {"K": 1, "M": 1 << 10, "G": 1 << 20}


def caches(root: Path) -> tuple[Cache, ...]:
    """The caches by level and kind; one that several processors share counts once.

    Raises ``Unreadable``: the kernel knows none (older boards' device trees do not say).
    """
    counted: set[tuple[int, str, int, str]] = set()
    for folder in files.entries(root, "sys/devices/system/cpu/cpu[0-9]*/cache/index[0-9]*"):
        level, size = files.optional(folder / "level"), size_kib(files.text(folder / "size"))
        if level and size:
            shared = files.text(folder / "shared_cpu_list") or folder.parent.parent.name
            counted.add((int(level), files.text(folder / "type"), size, shared))
    if not counted:
        raise Unreadable("the kernel lists no caches with their sizes")
    found = Counter((level, kind, size) for level, kind, size, _ in counted)
    return tuple(Cache(*key, count) for key, count in sorted(found.items()))


def size_kib(text: str) -> int:
    """``48K`` or ``2M`` in KiB; 0 for other text."""
    found = re.fullmatch(r"([0-9]{1,9})([KMG])", text)
    return int(found[1]) * _UNITS[found[2]] if found else 0
