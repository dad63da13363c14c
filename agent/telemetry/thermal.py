"""Temperatures: the kernel's thermal zones, and on AMD, which has no zone, the processor's sensor.

``/sys/class/thermal/thermal_zone*/{type,temp}`` and ``/sys/class/hwmon/hwmon*/temp*_input``, in
millidegrees Celsius (kernel: Documentation/driver-api/thermal, hwmon/sysfs-interface).
"""

from __future__ import annotations

from pathlib import Path

from agent.contract.device import Sensor
from agent.system import files
from agent.system.errors import Unreadable

name = "thermal"

_COLDEST_C, _HOTTEST_C = -40.0, 150.0
_HWMON = ("k10temp", "zenpower")


def plausible(zone: str, value_c: float) -> bool:
    """Whether a temperature is measured. Placeholders are -256 (no power), 0 (no such zone) and the
    PMIC's constant 50 or 100."""
    return "pmic" not in zone.lower() and value_c != 0 and _COLDEST_C < value_c < _HOTTEST_C


def read(root: Path) -> list[Sensor]:
    """Every plausible temperature, by the zone's type; a second zone of a type is ``TYPE 2``."""
    found: list[Sensor] = []
    for zone in files.entries(root, "sys/class/thermal/thermal_zone*"):
        # A zone without power answers with an error: it is absent now, not broken.
        _add(found, _kind(zone / "type") or zone.name, files.optional(zone / "temp"))
    for chip in files.entries(root, "sys/class/hwmon/hwmon*"):
        kind = _kind(chip / "name")
        if kind in _HWMON:
            for path in files.entries(chip, "temp*_input"):
                label = _kind(chip / path.name.replace("_input", "_label"))
                _add(found, f"{kind} {label}".strip(), files.optional(path))
    return found


def hottest_c(root: Path = Path("/")) -> float | None:
    """The hottest plausible temperature now, in degrees Celsius; ``None``: there is no sensor."""
    return max((sensor.value for sensor in read(root)), default=None)


def _add(found: list[Sensor], zone: str, millidegrees: float | None) -> None:
    value_c = (millidegrees or 0.0) / 1000
    if plausible(zone, value_c):
        same = sum(s.name == zone or s.name.startswith(f"{zone} ") for s in found)
        found.append(Sensor(name, f"{zone} {same + 1}" if same else zone, "C", value_c))


def _kind(path: Path) -> str:
    try:
        return files.text(path)
    except Unreadable:
        return ""
