"""Reading the append-only event log."""

from __future__ import annotations

from sqlalchemy import select

from orchestrator.service.farm import Farm
from orchestrator.service.views import EventView
from orchestrator.store.models import Event


def after(farm: Farm, number: int, limit: int) -> list[EventView]:
    """Events with a greater ``id`` than ``number``, oldest first."""
    with farm.database.snapshot() as session:
        rows = session.scalars(
            select(Event).where(Event.id > number).order_by(Event.id).limit(limit)
        )
        return [
            EventView(id=e.id, at=e.at, kind=e.kind, subject=e.subject, data=e.data) for e in rows
        ]
