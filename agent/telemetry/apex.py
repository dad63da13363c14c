"""Temperature of a Coral Edge TPU on PCIe: ``/sys/class/apex/apex_N/temp``, in millidegrees.

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
    """Degrees Celsius. Raises ``Unreadable``: an accelerator gives no plausible temperature."""
    found = []
    for device in files.entries(root, "sys/class/apex/apex_*"):
        millidegrees = files.number(device / "temp")
        value_c = (millidegrees or 0.0) / 1000
        if not plausible(device.name, value_c):
            raise Unreadable(f"{device}/temp says no temperature ({millidegrees})")
        found.append(Sensor(name, device.name, "C", value_c))
    return found
