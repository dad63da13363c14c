"""What follows from a device's row: whether it is online or retired, and its facts."""

from __future__ import annotations

from datetime import datetime, timedelta

from agent.contract import codec
from agent.contract.device import DeviceFacts
from orchestrator.service import rate_control
from orchestrator.service.context import FarmContext
from orchestrator.store.tables import Device


def online(farm: FarmContext, seen_at: datetime | None) -> bool:
    """Whether a device that was last heard of at ``seen_at`` counts as connected."""
    limit = timedelta(seconds=rate_control.current_pace(farm).offline_after_s)
    return seen_at is not None and farm.now() - seen_at < limit


def retired(found: Device) -> bool:
    """Whether the device has left the farm; only its measurements are kept."""
    return found.retired_at is not None


def facts_of(found: Device) -> DeviceFacts | None:
    return None if found.facts is None else codec.from_plain(DeviceFacts, found.facts)
