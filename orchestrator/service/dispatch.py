"""Giving devices work: claim the next trial in SQL, then ring the doorbell."""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from orchestrator.domain.health import ILL, Why
from orchestrator.domain.trial import OUTSTANDING, TrialState
from orchestrator.service import checks, register
from orchestrator.service.farm import Farm
from orchestrator.service.trials import apply, lifecycle_of
from orchestrator.store.models import Attempt, Device, Trial

log = logging.getLogger(__name__)


def dispatch(farm: Farm, device_id: int) -> bool:
    """Ring ``device_id`` for its next trial, if it is free, online, and has one it may be given.

    The claim is committed before the message goes out. A message that is lost costs the dispatch
    lease; a trial it can never cost.
    """
    with farm.database.transaction() as session:
        # the row lock makes schedulers side by side take turns at one device
        device = session.get_one(Device, device_id, with_for_update=True)
        attempt = _claim(farm, session, device)
    if attempt is None:
        return False
    try:
        farm.ring(device.name, attempt.id)
    except Exception as error:  # noqa: BLE001  the broker's client raises many kinds
        log.warning("doorbell of %s not rung, its lease will bring it back: %s", device.name, error)
    return True


def has_work(farm: Farm, session: Session, device_id: int) -> bool:
    """Whether a claim could succeed; asked without a lock, so that idle devices cost little."""
    mine = select(Trial.id).where(Trial.device_id == device_id)
    if session.scalar(mine.where(*ready(farm)).limit(1)) is None:
        return False
    return session.scalar(mine.where(is_outstanding()).limit(1)) is None


def ready(farm: Farm) -> tuple[ColumnElement[bool], ...]:
    """Of trials: one that its device may be rung for now."""
    return (
        Trial.state == TrialState.PENDING.value,
        Trial.waits_for.is_(None),
        or_(Trial.not_before.is_(None), Trial.not_before <= farm.now()),
    )


def is_outstanding() -> ColumnElement[bool]:
    """Of trials: an attempt is with its device."""
    return Trial.state.in_([state.value for state in OUTSTANDING])


def _claim(farm: Farm, session: Session, device: Device) -> Attempt | None:
    """A health check comes before anything else, and nothing else until it is judged; a device that
    is ill or drained gets no other trial."""
    if not register.online(farm, device):
        return None
    check = checks.current(session, device.id)
    if check is None and (not device.enabled or device.health in ILL):
        return None
    if check is not None and not device.enabled and check.why != Why.ASKED:
        return None
    mine = select(Trial).where(Trial.device_id == device.id)
    if session.scalar(mine.where(is_outstanding()).limit(1)) is not None:
        return None
    if check is not None:
        mine = mine.where(Trial.id == check.trial_id)
        checks.supply(farm)
    now = farm.now()
    row = session.scalar(
        mine.where(*ready(farm))
        .order_by(Trial.sweep_id, Trial.place)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if row is None:
        return None
    claimed = lifecycle_of(row).to(TrialState.DISPATCHED)
    apply(row, claimed)
    attempt = Attempt(
        id=uuid.uuid4().hex,
        trial_id=row.id,
        device_id=device.id,
        number=claimed.attempt,
        dispatched_at=now,
        lease_until=now + timedelta(seconds=farm.settings.dispatch_s),
    )
    session.add(attempt)
    return attempt
