"""Giving devices work: claim the next trial in SQL, then ring the doorbell."""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta

from sqlalchemy import ColumnElement, bindparam, exists, or_, select
from sqlalchemy.orm import Session, aliased

from orchestrator.domain.health import ILL, Why
from orchestrator.domain.trial import OUTSTANDING, TrialState
from orchestrator.service import checks, register
from orchestrator.service.farm import Farm
from orchestrator.service.trials import apply, lifecycle_of
from orchestrator.store.models import Attempt, Device, HealthCheck, Moment, Trial

log = logging.getLogger(__name__)


def dispatch(farm: Farm, device_id: int) -> bool:
    """Ring ``device_id`` for its next trial, if it is free, online, and has one it may be given."""
    with farm.database.transaction() as session:
        # the row lock makes schedulers side by side take turns at one device
        device = session.get_one(Device, device_id, with_for_update=True)
        attempt = claim(farm, session, device)
    if attempt is None:
        return False
    ring(farm, device, attempt)
    return True


def ring(farm: Farm, device: Device, attempt: Attempt) -> None:
    """After the claim's commit. A message that is lost costs the dispatch lease; a trial it can
    never cost."""
    try:
        farm.ring(device.name, attempt.id)
    except Exception as error:  # noqa: BLE001  the broker's client raises many kinds
        log.warning("doorbell of %s not rung, its lease will bring it back: %s", device.name, error)


def has_work(farm: Farm, session: Session, device_id: int) -> bool:
    """Whether a claim could succeed; asked without a lock, so that idle devices cost little."""
    return session.scalar(_HAS_WORK, {"device": device_id, "now": farm.now()}) is not None


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


_OTHER = aliased(Trial)
_BUSY = exists().where(
    _OTHER.device_id == Trial.device_id,
    _OTHER.state.in_([state.value for state in OUTSTANDING]),
)
_CHECKED = exists().where(HealthCheck.device_id == Trial.device_id, HealthCheck.ended_at.is_(None))
_WAITING = (
    select(Trial)
    .where(
        Trial.device_id == bindparam("device"),
        Trial.state == TrialState.PENDING.value,
        Trial.waits_for.is_(None),
        or_(Trial.not_before.is_(None), Trial.not_before <= bindparam("now", type_=Moment())),
        ~_BUSY,
    )
    .limit(1)
)
# written once: to build such a query costs more than to run it
_HAS_WORK = _WAITING.with_only_columns(Trial.id)
_NEXT = _WAITING.order_by(Trial.sweep_id, Trial.place).with_for_update(of=Trial, skip_locked=True)
_NEXT_UNCHECKED = _NEXT.where(~_CHECKED)
_NEXT_CHECK = _NEXT.where(Trial.id == bindparam("trial"))


def claim(farm: Farm, session: Session, device: Device) -> Attempt | None:
    """The attempt at the device's next trial, if it is free, online, and has one it may be given.
    The caller holds the device's row, and rings when this is committed."""
    if not register.online(farm, device):
        return None
    row = _next(farm, session, device)
    if row is None:
        return None
    now = farm.now()
    claimed = lifecycle_of(row).to(TrialState.DISPATCHED)
    apply(row, claimed)
    attempt = Attempt(
        id=uuid.uuid4().hex,
        trial_id=row.id,
        device_id=device.id,
        number=claimed.attempt,
        dispatched_at=now,
        lease_until=now + timedelta(seconds=farm.settings.dispatch_s),
        trial=row,
    )
    session.add(attempt)
    return attempt


def _next(farm: Farm, session: Session, device: Device) -> Trial | None:
    """A health check comes before anything else, and nothing else until it is judged; a device that
    is ill or drained gets no other trial."""
    given = {"device": device.id, "now": farm.now()}
    if device.enabled and device.health not in ILL:
        row = session.scalar(_NEXT_UNCHECKED, given)
        if row is not None:
            return row
    check = checks.current(session, device.id)
    if check is None or (not device.enabled and check.why != Why.ASKED):
        return None
    checks.supply(farm)
    return session.scalar(_NEXT_CHECK, {**given, "trial": check.trial_id})
