"""Facts for people: rows of (name, value), as the agent and the controller show them."""

from __future__ import annotations

from itertools import groupby

from agent.contract.device import Accelerator, Cache, CoreGroup, DeviceFacts, Sensor, Storage
from agent.facts.cpu import COMMON_NAMES

_DECIMALS = {"C": 1, "percent": 1, "J": 1, "s": 3}
_UNITS = {"C": " °C", "percent": " %", "count": ""}


def rows(known: DeviceFacts) -> list[tuple[str, str]]:
    """Everything but the runtimes; what the board has not is left out, what could not be read is
    said last, with the reason."""
    python = f"Python {known.python}" if known.python else ""
    said = [
        ("host", known.hostname),
        ("board", known.model or "unknown"),
        ("chip", known.soc or ""),
        ("system", ", ".join(filter(None, (known.system, known.machine, python)))),
        *((name.replace("_", " "), known.versions[name]) for name in sorted(known.versions)),
        ("processor", f"{known.cpu_model or 'unknown'}, {known.cpu_count or '?'} usable"),
        ("cores", "; ".join(map(_cores, known.cores))),
        ("caches", "; ".join(map(_cache, known.caches))),
        ("instructions", ", ".join(map(_isa, known.isa)) or "none of interest"),
        ("memory", _mib(known.memory_mib)),
        ("storage", _storage(known.storage)),
        ("free storage", _mib(known.storage_free_mib)),
        *(("accelerator", _accelerator(found)) for found in known.accelerators),
        ("power mode", _power_mode(known)),
    ]
    for source, found in groupby(known.sensors, key=lambda sensor: sensor.source):
        said.append((f"sensors {source}", ", ".join(map(_sensor, found))))
    said += [(f"unread: {name}", why) for name, why in known.unread.items()]
    return [(name, value) for name, value in said if value]


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


def _power_mode(known: DeviceFacts) -> str:
    others = f" (of {', '.join(known.power_modes)})" if known.power_modes else ""
    return f"{known.power_mode or 'unknown'}{others}" if known.power_mode or others else ""


def _sensor(sensor: Sensor) -> str:
    value = f"{sensor.value:.{_DECIMALS.get(sensor.unit, 0)}f}"
    return f"{sensor.name} {value}{_UNITS.get(sensor.unit, f' {sensor.unit}')}"


def _mib(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f} MiB"
