"""Power of a Jetson's rails, from its INA3221 monitors and Thor's INA238 (sysfs).

JetPack 4: ``iio:device*`` with ``rail_name_N`` and ``in_powerN_input`` (mW). JetPack 5 and later:
hwmon with ``inN_label``, ``inN_input`` (mV) and ``currN_input`` (mA); ``in7`` is the sum of the
shunt voltages and not a rail.
"""

from __future__ import annotations

from pathlib import Path

from agent.contract.device import Sensor
from agent.system import files, jetson_rails
from agent.system.errors import Unreadable

name = "ina3221"

_IIO = "sys/bus/i2c/drivers/ina3221*/*/iio:device*"
_HWMON = "sys/bus/i2c/drivers/ina3221*/*/hwmon/hwmon*"
_CHANNELS = (1, 2, 3)


def read(root: Path) -> list[Sensor]:
    """Each rail and their total, in mW. Raises ``Unreadable``: there are monitors, none answers."""
    iio, hwmon = files.entries(root, _IIO), files.entries(root, _HWMON)
    found: dict[str, float] = {}
    for device in iio:
        found.update(_iio(device))
    for device in hwmon:
        found.update(_hwmon(device))
    if (iio or hwmon) and not found:
        raise Unreadable("the power monitors name no rail that answers")
    for chip in files.entries(root, "sys/class/hwmon/hwmon*") if found else ():
        microwatts = files.optional(chip / "power1_input")
        if microwatts and files.text(chip / "name") == "ina238":
            found["VIN"] = microwatts / 1000  # Thor's input of the whole board
    return jetson_rails.sensors(name, found)


def _iio(device: Path) -> dict[str, float]:
    found = {}
    for path in files.entries(device, "rail_name_*"):
        rail = files.text(path)
        number = path.name.removeprefix("rail_name_")
        power_mw = files.optional(device / f"in_power{number}_input")
        if power_mw is not None and _is_rail(rail):
            found[rail] = power_mw
    return found


def _hwmon(device: Path) -> dict[str, float]:
    found = {}
    for channel in _CHANNELS:
        rail = files.text(device / f"in{channel}_label")
        millivolts = files.optional(device / f"in{channel}_input")
        milliamperes = files.optional(device / f"curr{channel}_input")
        if millivolts is not None and milliamperes is not None and _is_rail(rail):
            found[rail] = millivolts * milliamperes / 1000
    return found


def _is_rail(rail: str) -> bool:
    return rail not in ("", jetson_rails.UNUSED) and "shunt" not in rail.lower()
