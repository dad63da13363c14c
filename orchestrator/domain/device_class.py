"""Device classes: what kind of board this is, recognised from its facts. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.contract import DeviceFacts


@dataclass(frozen=True)
class DeviceClass:
    """One ``inventory/classes/*.yaml``. ``recognise`` maps a fact's name (``machine``,
    ``cpu_model``, ``model``) to a regular expression; all must be found in the facts."""

    name: str
    title: str
    priority: int = 0
    recognise: dict[str, str] = field(default_factory=dict)

    def fits(self, facts: DeviceFacts) -> bool:
        return all(
            re.search(pattern, str(getattr(facts, fact, None) or ""), re.IGNORECASE)
            for fact, pattern in self.recognise.items()
        )


def recognise(classes: Iterable[DeviceClass], facts: DeviceFacts) -> str:
    """The name of the most specific class that fits, or ``unknown``."""
    fitting = [c for c in classes if c.recognise and c.fits(facts)]
    return max(fitting, key=lambda c: (c.priority, c.name)).name if fitting else "unknown"
