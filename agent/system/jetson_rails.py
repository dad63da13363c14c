"""A Jetson's power rails as sensors, in mW, and which rail feeds the whole board."""

from __future__ import annotations

from collections.abc import Mapping

from agent.contract.device import Sensor

UNUSED = "NC"
"""Label of a channel that is not connected."""
TOTAL = "total power"
_WHOLE = ("VIN", "VDD_IN", "POM_5V_IN")
"""Input rails of Thor; of Orin Nano/NX, Xavier NX and TX2; of Nano."""


def total_mw(rails: Mapping[str, float]) -> float | None:
    """The input rail's power; on the AGX boards, which have none, the sum of all rails."""
    for name in _WHOLE:
        if name in rails:
            return rails[name]
    return sum(rails.values()) if rails else None


def sensors(source: str, rails: Mapping[str, float]) -> list[Sensor]:
    """``NAME power`` for each rail (a thermal zone may have the same name), and ``TOTAL``."""
    found = [Sensor(source, f"{rail} power", "mW", value) for rail, value in rails.items()]
    total = total_mw(rails)
    return found if total is None else [*found, Sensor(source, TOTAL, "mW", total)]
