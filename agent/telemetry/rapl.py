"""Energy counters of Intel and AMD processors (RAPL, through powercap).

``/sys/class/powercap/intel-rapl*:*/energy_uj``, usually readable by root only; it wraps to 0 after
``max_energy_range_uj`` (kernel: Documentation/power/powercap).
"""

from __future__ import annotations

from pathlib import Path

from agent.contract.device import Sensor
from agent.system import files

name = "rapl"


def delta_uj(before: float, after: float, range_uj: float) -> float:
    """Energy between two readings of one zone less than a wrap apart, in µJ."""
    return after - before if after >= before else range_uj - before + after


def read(root: Path) -> list[Sensor]:
    """Each zone's counter, in J; only differences have a meaning. Raises ``Unreadable``."""
    found = []
    for zone in files.entries(root, "sys/class/powercap/intel-rapl*:*"):
        energy_uj = files.number(zone / "energy_uj")
        if energy_uj is not None:
            found.append(Sensor(name, _label(zone), "J", energy_uj / 1e6))
    return found


def _label(zone: Path) -> str:
    """``intel-rapl:0:1 core``: unique, also where two interfaces lead to one counter."""
    return f"{zone.name} {files.text(zone / 'name')}".strip()
