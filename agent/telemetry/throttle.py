"""Counters of throttling events; only their growth over a trial has a meaning.

Jetson: ``hwmon*/oc*_event_cnt`` (over-current, under-voltage). x86:
``cpu*/thermal_throttle/{core,package}_throttle_count``.
"""

from __future__ import annotations

from pathlib import Path

from agent.contract.device import Sensor
from agent.system import files

name = "throttle"


def read(root: Path) -> list[Sensor]:
    """Counts since boot: on x86 the sum over the cores, and the greatest of the packages."""
    found = [
        Sensor(name, path.name, "count", value)
        for path in files.entries(root, "sys/class/hwmon/hwmon*/oc*_event_cnt")
        if (value := files.optional(path)) is not None
    ]
    for kind, total in (("core", sum), ("package", max)):
        pattern = f"sys/devices/system/cpu/cpu*/thermal_throttle/{kind}_throttle_count"
        counts = [files.optional(path) for path in files.entries(root, pattern)]
        known = [count for count in counts if count is not None]
        if known:
            found.append(Sensor(name, f"{kind}_throttle_count", "count", float(total(known))))
    return found
