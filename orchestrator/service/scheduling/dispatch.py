"""Giving devices work: claim the next trial in SQL, then ring the doorbell."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, exists, or_, select
from sqlalchemy.orm import Session, aliased

from orchestrator.domain.health import ILL, CheckReason
from orchestrator.domain.trial import OUTSTANDING, TrialState
from orchestrator.service.context import FarmContext
from orchestrator.service.device_state import online
from orchestrator.service.devices import health_check_rows
from orchestrator.service.trials import attempt_queries
from orchestrator.service.trials.transitions import lifecycle_of
from orchestrator.store.tables import Device, HealthCheck, Moment, Trial

log = logging.getLogger(__name__)


_DEVICE = (
    select(Device.id, Device.name, Device.enabled, Device.health, Device.seen_at)
    .where(Device.id == bindparam("device"))
    # its key stays free: a sweep that refers to it is submitted meanwhile
    .with_for_update(key_share=True)
)


@dataclass(frozen=True)
class ClaimedAttempt:
    """An attempt that a device is to be rung for, and its sweep."""

    device: str
    attempt_id: str
    sweep_id: int


def dispatch(farm: FarmContext, device_id: int) -> bool:
    """Ring ``device_id`` for its next trial, if it is free, online, and has one it may be given."""
    with farm.database.transaction() as session:
        device = hold(session, device_id)
        claimed = None if device is None else claim(farm, session, device)
    if claimed is None:
        return False
    ring(farm, claimed)
    return True


def hold(session: Session, device_id: int) -> attempt_queries.ClaimingDevice | None:
    """What a claim asks of a device, whose row is locked until the transaction ends: schedulers
    side by side take turns at it. ``None`` where it was retired a moment ago."""
    row = session.connection().execute(_DEVICE, {"device": device_id}).one_or_none()
    return None if row is None else attempt_queries.ClaimingDevice(*row)


def ring(farm: FarmContext, claimed: ClaimedAttempt) -> None:
    """After the claim's commit. A message that is lost costs the dispatch lease; a trial it can
    never cost."""
    try:
        farm.ring(claimed.device, claimed.attempt_id)
    except Exception as error:  # noqa: BLE001  the broker's client raises many kinds
        log.warning(
            "doorbell of %s not rung, its lease will bring it back: %s", claimed.device, error
        )


def has_work(farm: FarmContext, connection: Connection, device_id: int) -> bool:
    """Whether a claim could succeed; asked without a lock, so that idle devices cost little."""
    given = {"device": device_id, "now": farm.now()}
    return connection.execute(_HAS_WORK, given).first() is not None


def ready(now: datetime | ColumnElement[datetime]) -> tuple[ColumnElement[bool], ...]:
    """Of trials: one that its device may be rung for at ``now``."""
    return (
        Trial.state == TrialState.PENDING.value,
        Trial.waits_for.is_(None),
        or_(Trial.not_before.is_(None), Trial.not_before <= now),
    )


def is_outstanding(trial: type[Trial] = Trial) -> ColumnElement[bool]:
    """Of trials: an attempt is with its device."""
    return trial.state.in_([state.value for state in OUTSTANDING])


_OTHER = aliased(Trial)
_BUSY = exists().where(_OTHER.device_id == Trial.device_id, is_outstanding(_OTHER))
_CHECKED = exists().where(HealthCheck.device_id == Trial.device_id, HealthCheck.ended_at.is_(None))
_WAITING = (
    select(Trial.id, Trial.sweep_id, Trial.state, Trial.attempt, Trial.spent)
    .where(
        Trial.device_id == bindparam("device"),
        *ready(bindparam("now", type_=Moment())),
        ~_BUSY,
    )
    .limit(1)
)
# written once: to build such a query costs more than to run it
_HAS_WORK = _WAITING.with_only_columns(Trial.id)
_NEXT = _WAITING.order_by(Trial.sweep_id, Trial.place).with_for_update(of=Trial, skip_locked=True)
_NEXT_UNCHECKED = _NEXT.where(~_CHECKED)
_NEXT_CHECK = _NEXT.where(Trial.id == bindparam("trial"))


def claim(
    farm: FarmContext, session: Session, device: attempt_queries.ClaimingDevice
) -> ClaimedAttempt | None:
    """The attempt at the next trial of a device that the caller ``hold``s, if it is free, online,
    and has one it may be given; to be rung for when this is committed."""
    if not online(farm, device.seen_at):
        return None
    row = _next(farm, session, device)
    if row is None:
        return None
    claimed = lifecycle_of(row).to(TrialState.DISPATCHED)
    attempt_id = attempt_queries.add(farm, session, device.id, row.id, claimed)
    return ClaimedAttempt(device.name, attempt_id, row.sweep_id)


def _next(farm: FarmContext, session: Session, device: attempt_queries.ClaimingDevice) -> Any:
    """A health check comes before anything else, and nothing else until it is judged; a device that
    is ill or drained gets no other trial."""
    given = {"device": device.id, "now": farm.now()}
    if device.enabled and device.health not in ILL:
        row = session.connection().execute(_NEXT_UNCHECKED, given).one_or_none()
        if row is not None:
            return row
    check = health_check_rows.current(session, device.id)
    if check is None or (not device.enabled and check.why != CheckReason.ASKED):
        return None
    health_check_rows.supply(farm)
    given["trial"] = check.trial_id
    return session.connection().execute(_NEXT_CHECK, given).one_or_none()
