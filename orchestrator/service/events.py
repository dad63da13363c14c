"""Reading the append-only event log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, or_, select

from orchestrator.domain import event_kinds
from orchestrator.domain.event_kinds import EVENT_KINDS
from orchestrator.service.context import FarmContext
from orchestrator.service.views import EventView
from orchestrator.store.tables import Event

NAMING_KEYS = ("sweep", "device", "model", "was")
"""Keys of an event's data that hold the name of something that it is about."""


@dataclass(frozen=True)
class EventFilter:
    """Selects events with an ``id`` greater than ``after``, by subject, kind and age.

    An event is of a ``subject`` if that is its own, if its data names it (a trial's event names
    its sweep and its device), or if it was the actor. An empty field selects all. ``latest``: the
    last ``limit`` events instead of the first.
    """

    after: int = 0
    limit: int = 200
    subject: str = ""
    kind: str = ""
    since: datetime | None = None
    latest: bool = False


def find(farm: FarmContext, wanted: EventFilter) -> list[EventView]:
    """At most ``wanted.limit`` events, the oldest first. Raises ``UserError``: no such kind."""
    query = select(Event).where(Event.id > wanted.after)
    if wanted.subject:
        query = query.where(_is_of(wanted.subject))
    if wanted.kind:
        query = query.where(Event.kind == wanted.kind)
    if wanted.since is not None:
        query = query.where(Event.at >= wanted.since)
    query = query.order_by(Event.id.desc() if wanted.latest else Event.id).limit(wanted.limit)
    with farm.database.read_session() as session:
        if wanted.kind and wanted.kind not in EVENT_KINDS:
            event_kinds.require(wanted.kind, session.scalars(select(Event.kind).distinct()).all())
        found = [_view(e) for e in session.scalars(query)]
    return found[::-1] if wanted.latest else found


def _is_of(subject: str) -> ColumnElement[bool]:
    """Condition on events: they are about ``subject``, or happened because of it."""
    named = [Event.data[key].as_string() == subject for key in NAMING_KEYS]
    by = Event.data["by"].as_string()
    person = by.contains(f" {subject} (token ", autoescape=True)  # operator ann (token 3)
    return or_(Event.subject == subject, *named, by == f"device {subject}", person)


def after(farm: FarmContext, number: int, limit: int) -> list[EventView]:
    """Events with an ``id`` greater than ``number``, the oldest first."""
    return find(farm, EventFilter(number, limit))


def _view(event: Event) -> EventView:
    data = {key: value for key, value in event.data.items() if key != "by"}
    by = str(event.data.get("by", ""))
    return EventView(
        id=event.id, at=event.at, kind=event.kind, subject=event.subject, by=by, data=data
    )
