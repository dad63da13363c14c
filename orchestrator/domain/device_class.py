"""Device classes: what kind of board this is, recognised from its facts. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from agent.device_facts import DeviceFacts


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class HealthPolicy(Strict):
    """What a board of the class must keep to be healthy. ``backend``: runs the health check's model
    (empty: whichever answers first). ``max_latency_ms``: the canary's, whatever the history."""

    backend: str = ""
    max_temperature_c: float = 90.0
    min_free_mib: float = 512.0
    max_latency_ms: float | None = None


class DeviceClass(Strict):
    """One ``inventory/classes/*.yaml``. ``recognise`` maps a fact's name (``machine``,
    ``cpu_model``, ``model``, ``soc``, ``accelerators``) to a regular expression; all must be found
    in the facts."""

    name: str
    title: str
    priority: int = 0
    recognise: dict[str, str] = {}
    health: HealthPolicy = Field(default_factory=HealthPolicy)

    def fits(self, facts: DeviceFacts) -> bool:
        return all(
            re.search(pattern, _text(facts, fact), re.IGNORECASE | re.MULTILINE)
            for fact, pattern in self.recognise.items()
        )


def recognise(classes: Iterable[DeviceClass], facts: DeviceFacts) -> str:
    """The name of the most specific class that fits, or ``unknown``."""
    fitting = [c for c in classes if c.recognise and c.fits(facts)]
    return max(fitting, key=lambda c: (c.priority, c.name)).name if fitting else "unknown"


def _text(facts: DeviceFacts, fact: str) -> str:
    """A fact to look for a pattern in; each accelerator is a line ``KIND BUS NAME``."""
    if fact == "accelerators":
        return "\n".join(f"{a.kind} {a.bus} {a.name}" for a in facts.accelerators)
    return str(getattr(facts, fact, None) or "")
