"""Reading the append-only event log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from orchestrator.service.context import FarmContext
from orchestrator.service.views import EventView
from orchestrator.store.tables import Event


@dataclass(frozen=True)
class EventFilter:
    """Selects events with an ``id`` greater than ``after``, by subject, kind and age.

    An empty field selects all. ``latest``: the last ``limit`` events instead of the first.
    """

    after: int = 0
    limit: int = 200
    subject: str = ""
    kind: str = ""
    since: datetime | None = None
    latest: bool = False


def find(farm: FarmContext, wanted: EventFilter) -> list[EventView]:
    """At most ``wanted.limit`` events, the oldest first."""
    query = select(Event).where(Event.id > wanted.after)
    if wanted.subject:
        query = query.where(Event.subject == wanted.subject)
    if wanted.kind:
        query = query.where(Event.kind == wanted.kind)
    if wanted.since is not None:
        query = query.where(Event.at >= wanted.since)
    query = query.order_by(Event.id.desc() if wanted.latest else Event.id).limit(wanted.limit)
    with farm.database.read_session() as session:
        found = [_view(e) for e in session.scalars(query)]
    return found[::-1] if wanted.latest else found


def after(farm: FarmContext, number: int, limit: int) -> list[EventView]:
    """Events with an ``id`` greater than ``number``, the oldest first."""
    return find(farm, EventFilter(number, limit))


def _view(event: Event) -> EventView:
    data = {key: value for key, value in event.data.items() if key != "by"}
    by = str(event.data.get("by", ""))
    return EventView(
        id=event.id, at=event.at, kind=event.kind, subject=event.subject, by=by, data=data
    )
