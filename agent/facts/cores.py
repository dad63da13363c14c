"""The processor's cores by kind.

Intel's hybrid processors list theirs in ``/sys/devices/cpu_{core,atom,lowpower}/cpus``; an ARM core
is identified by its part in ``/proc/cpuinfo``. Clocks: ``cpufreq/cpuinfo_max_freq`` (kHz).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from agent.contract.device import CoreGroup
from agent.facts import arm_parts, cpu
from agent.system import files
from agent.system.errors import Unreadable

_SYSTEM = "sys/devices/system/cpu"
_HYBRID = {"cpu_core": "performance", "cpu_atom": "efficient", "cpu_lowpower": "low-power"}
OFFLINE = "offline"
_PLAIN = "core"


@dataclass(frozen=True)
class _Kind:
    name: str
    max_mhz: float | None
    capacity: int | None


def cores(root: Path) -> tuple[CoreGroup, ...]:
    """Groups of cores of one kind and clock, the fastest first, offline cores last.

    Raises ``Unreadable``: ``/proc/cpuinfo`` lists no processors.
    """
    names = _names(root)
    threads: Counter[_Kind] = Counter()
    count: Counter[_Kind] = Counter()
    seen: set[frozenset[int]] = set()
    for index, name in names.items():
        folder = root / _SYSTEM / f"cpu{index}"
        kind = _Kind(name, _max_mhz(folder), _capacity(folder, name))
        siblings = _siblings(folder, index)
        threads[kind] += 1
        count[kind] += siblings not in seen
        seen.add(siblings)
    order = sorted(threads, key=lambda k: (-(k.max_mhz or 0), -(k.capacity or 0), k.name))
    groups = [CoreGroup(k.name, count[k], k.max_mhz, threads[k], k.capacity) for k in order]
    offline = len(files.cpu_list(files.text(root / _SYSTEM / "present")) - set(names))
    if offline:  # Jetson's power modes switch cores off
        groups.append(CoreGroup(OFFLINE, offline, None, 0))
    return tuple(groups)


def _names(root: Path) -> dict[int, str]:
    """The kind of each logical processor that is online."""
    found = {
        int(entries["processor"]): _name(entries)
        for entries in cpu.processors(root)
        if entries.get("processor", "").isdecimal()
    }
    if not found:
        raise Unreadable("/proc/cpuinfo lists no processors")
    for folder, kind in _HYBRID.items():
        for index in files.cpu_list(files.text(root / "sys/devices" / folder / "cpus")):
            if index in found:
                found[index] = kind
    return found


def _name(entries: dict[str, str]) -> str:
    part = entries.get("CPU part", "")
    return arm_parts.core(entries.get("CPU implementer", ""), part) if part else _PLAIN


def _max_mhz(folder: Path) -> float | None:
    khz = files.optional(folder / "cpufreq/cpuinfo_max_freq")
    return khz / 1000 if khz else None


def _capacity(folder: Path, name: str) -> int | None:
    """The kernel's measure of an ARM core, 1024 for the board's strongest. ``None`` on x86, where
    it differs between cores of one kind."""
    if name == _PLAIN or name in _HYBRID.values():
        return None
    found = files.optional(folder / "cpu_capacity")
    return None if found is None else int(found)


def _siblings(folder: Path, index: int) -> frozenset[int]:
    """Numbers of the hardware threads that share this one's core."""
    try:
        listed = files.cpu_list(files.text(folder / "topology/thread_siblings_list"))
    except Unreadable:
        listed = set()
    return frozenset(listed or {index})
