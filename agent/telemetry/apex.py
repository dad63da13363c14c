"""A Coral Edge TPU on PCIe: ``/sys/class/apex/apex_N/temp``, in thousandths of a degree.

Its driver slows it at 85, 90 and 95 °C. A Coral on USB has no sensor.
"""

from __future__ import annotations

from pathlib import Path

from agent.contract.device import Sensor
from agent.system import files
from agent.system.errors import Unreadable
from agent.telemetry.thermal import plausible

name = "apex"


def read(root: Path) -> list[Sensor]:
    """Raises ``Unreadable``: the accelerator is there, and its temperature is not."""
    found = []
    for device in files.entries(root, "sys/class/apex/apex_*"):
        millidegrees = files.number(device / "temp")
        value_c = (millidegrees or 0.0) / 1000
        if not plausible(device.name, value_c):
            raise Unreadable(f"{device}/temp says no temperature ({millidegrees})")
        found.append(Sensor(name, device.name, "C", value_c))
    return found
