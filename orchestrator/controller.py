"""A running controller."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.broker.embedded import Broker
from orchestrator.service.context import FarmContext


@dataclass(frozen=True)
class Controller:
    """A running controller. ``token``: an administrator's."""

    farm: FarmContext
    url: str
    token: str
    broker: Broker
