"""Recording in the event log that a device went offline, or is back."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from orchestrator.service import rate_control
from orchestrator.service.context import FarmContext
from orchestrator.store.tables import Device

AT_ONCE = 200
"""Devices whose change one transaction records: a power cut takes a whole farm offline."""


def record_changes(farm: FarmContext, *, silence_counts: bool) -> None:
    """Append ``device_offline`` and ``device_online`` events for devices whose connection is not
    what the log says of it.

    ``silence_counts``: false after a time in which nobody could have heard a heartbeat (a start of
    the controller, a jump of its clock): a device is then not called offline yet.

    Locks the devices' rows, and skips those that somebody else holds: the next round sees them.
    """
    changed = _has_changed(farm, silence_counts)
    with farm.database.read_connection() as connection:
        found = connection.execute(select(Device.id).where(changed).limit(AT_ONCE)).scalars().all()
    if not found:
        return
    with farm.database.transaction() as session:
        query = select(Device).where(Device.id.in_(found), changed).order_by(Device.id)
        for device in session.scalars(query.with_for_update(skip_locked=True)):
            _record_change(farm, session, device)


def _has_changed(farm: FarmContext, silence_counts: bool) -> ColumnElement[bool]:
    """Condition on devices: online, and noted as offline, or the reverse."""
    limit = timedelta(seconds=rate_control.current_pace(farm).offline_after_s)
    latest = farm.now() - limit
    came_back = Device.noted_online.is_(False) & (Device.seen_at > latest)
    if not silence_counts:
        return came_back
    fell_silent = Device.noted_online.is_(True) & (Device.seen_at <= latest)
    return or_(came_back, fell_silent)


def _record_change(farm: FarmContext, session: Session, device: Device) -> None:
    assert device.seen_at is not None
    device.noted_online = not device.noted_online
    if device.noted_online:
        farm.record_event(session, "device_online", device.name)
    else:
        farm.record_event(
            session, "device_offline", device.name, last_heartbeat=device.seen_at.isoformat()
        )
