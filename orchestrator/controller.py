"""A controller that runs, as its callers hold it."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.broker.embedded import Broker
from orchestrator.service.context import FarmContext


@dataclass(frozen=True)
class Controller:
    """A controller that answers. ``token`` is an administrator's."""

    farm: FarmContext
    url: str
    token: str
    broker: Broker
