"""Facts as rows of (name, value), which agent and controller show to people."""

from __future__ import annotations

from itertools import groupby

from agent.contract.device import Accelerator, Cache, CoreGroup, DeviceFacts, Sensor, Storage
from agent.facts.cpu import COMMON_NAMES

_DECIMALS = {"C": 1, "percent": 1, "J": 1, "s": 3}
_UNITS = {"C": " °C", "percent": " %", "count": ""}


def rows(facts: DeviceFacts) -> list[tuple[str, str]]:
    """All facts but the runtimes. A fact that the board lacks is left out; those that could not be
    read come last, with the reason."""
    python = f"Python {facts.python}" if facts.python else ""
    named = [
        ("host", facts.hostname),
        ("board", facts.model or "unknown"),
        ("chip", facts.soc or ""),
        ("system", ", ".join(filter(None, (facts.system, facts.machine, python)))),
        *((name.replace("_", " "), facts.versions[name]) for name in sorted(facts.versions)),
        ("processor", f"{facts.cpu_model or 'unknown'}, {facts.cpu_count or '?'} usable"),
        ("cores", "; ".join(map(_cores, facts.cores))),
        ("caches", "; ".join(map(_cache, facts.caches))),
        ("instructions", ", ".join(map(_isa, facts.isa)) or "none of interest"),
        ("memory", _mib(facts.memory_mib)),
        ("storage", _storage(facts.storage)),
        ("free storage", _mib(facts.storage_free_mib)),
        *(("accelerator", _accelerator(found)) for found in facts.accelerators),
        ("power mode", _power_mode(facts)),
    ]
    for source, found in groupby(facts.sensors, key=lambda sensor: sensor.source):
        named.append((f"sensors {source}", ", ".join(map(_sensor, found))))
    named += [(f"unread: {name}", why) for name, why in facts.unread.items()]
    return [(name, value) for name, value in named if value]


def _cores(group: CoreGroup) -> str:
    """``4 × Cortex-A76 up to 2400 MHz``."""
    clock = f" up to {group.max_mhz:.0f} MHz" if group.max_mhz else ""
    threads = f" ({group.threads} threads)" if group.threads > group.count else ""
    return f"{group.count} × {group.kind}{threads}{clock}"


def _cache(cache: Cache) -> str:
    kind = {"Data": "L{}d", "Instruction": "L{}i"}.get(cache.kind, "L{}").format(cache.level)
    return f"{kind} {cache.count} × {cache.size_kib} KiB"


def _isa(name: str) -> str:
    return f"{COMMON_NAMES[name]} ({name})" if name in COMMON_NAMES else name


def _storage(disk: Storage | None) -> str:
    if disk is None:
        return ""
    parts = (disk.kind, disk.device, f"{disk.total_mib:.0f} MiB" if disk.total_mib else "")
    return ", ".join(filter(None, parts))


def _accelerator(found: Accelerator) -> str:
    detail = ", ".join(f"{key} {value}" for key, value in sorted(found.detail.items()))
    where = f"{found.kind}, {found.bus}" if found.bus else found.kind
    return f"{found.name} ({where}{'; ' if detail else ''}{detail})"


def _power_mode(facts: DeviceFacts) -> str:
    others = f" (of {', '.join(facts.power_modes)})" if facts.power_modes else ""
    return f"{facts.power_mode or 'unfacts'}{others}" if facts.power_mode or others else ""


def _sensor(sensor: Sensor) -> str:
    value = f"{sensor.value:.{_DECIMALS.get(sensor.unit, 0)}f}"
    return f"{sensor.name} {value}{_UNITS.get(sensor.unit, f' {sensor.unit}')}"


def _mib(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f} MiB"
