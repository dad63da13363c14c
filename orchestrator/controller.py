"""A running controller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.broker.embedded import Broker
from orchestrator.service.context import FarmContext


@dataclass(frozen=True)
class Controller:
    """A running controller. ``token``: an administrator's. ``broker_fault()``: tries the broker;
    why it cannot be used by boards, and what to do (empty: it can)."""

    farm: FarmContext
    url: str
    token: str
    broker: Broker
    broker_fault: Callable[[], str]
