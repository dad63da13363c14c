"""Power rails of a Jetson, by name, in mW; and which of them is the whole board."""

from __future__ import annotations

from collections.abc import Mapping

from agent.contract.device import Sensor

UNUSED = "NC"
"""A channel that is not connected."""
TOTAL = "total power"
_WHOLE = ("VIN", "VDD_IN", "POM_5V_IN")
"""Thor, then Orin Nano/NX, Xavier NX and TX2, then Nano."""


def total_mw(rails: Mapping[str, float]) -> float | None:
    """The input rail; on the AGX boards, which have none, the sum of all."""
    for name in _WHOLE:
        if name in rails:
            return rails[name]
    return sum(rails.values()) if rails else None


def sensors(source: str, rails: Mapping[str, float]) -> list[Sensor]:
    """``NAME power`` for each rail (a zone of temperature may have its name), and ``TOTAL``."""
    found = [Sensor(source, f"{rail} power", "mW", value) for rail, value in rails.items()]
    total = total_mw(rails)
    return found if total is None else [*found, Sensor(source, TOTAL, "mW", total)]
