"""Giving a device its next trial: claimed in SQL first, then announced by a doorbell."""

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
from orchestrator.service.trials.attempt_queries import ClaimingDevice
from orchestrator.service.trials.transitions import lifecycle_of
from orchestrator.store.tables import Device, HealthCheck, Moment, Trial

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClaimedAttempt:
    """An attempt that a device was given, and its sweep; the device does not know of it yet."""

    device: str
    attempt_id: str
    sweep_id: int


def ready_conditions(now: datetime | ColumnElement[datetime]) -> tuple[ColumnElement[bool], ...]:
    """Conditions on trials: the device may be given the trial at ``now``."""
    return (
        Trial.state == TrialState.PENDING.value,
        Trial.waits_for.is_(None),
        or_(Trial.not_before.is_(None), Trial.not_before <= now),
    )


def is_outstanding(trial: type[Trial] = Trial) -> ColumnElement[bool]:
    """Condition on trials: an attempt is with the device."""
    return trial.state.in_([state.value for state in OUTSTANDING])


_OTHER_TRIAL = aliased(Trial)
_DEVICE_IS_BUSY = exists().where(
    _OTHER_TRIAL.device_id == Trial.device_id, is_outstanding(_OTHER_TRIAL)
)
_DEVICE_HAS_OPEN_CHECK = exists().where(
    HealthCheck.device_id == Trial.device_id, HealthCheck.ended_at.is_(None)
)

# The statements below are built once: building one costs more than executing it.

# Locks the device's row (1): schedulers take turns at one device. FOR NO KEY UPDATE: a sweep that
# refers to the device can be submitted meanwhile.
SELECT_DEVICE_FOR_UPDATE = (
    select(Device.id, Device.name, Device.enabled, Device.health, Device.seen_at)
    .where(Device.id == bindparam("device"))
    .with_for_update(key_share=True)
)
_SELECT_READY_TRIAL = (
    select(Trial.id, Trial.sweep_id, Trial.state, Trial.attempt, Trial.spent)
    .where(
        Trial.device_id == bindparam("device"),
        *ready_conditions(bindparam("now", type_=Moment())),
        ~_DEVICE_IS_BUSY,
    )
    .limit(1)
)
# Locks nothing: idle devices are looked at often.
SELECT_READY_TRIAL_ID = _SELECT_READY_TRIAL.with_only_columns(Trial.id)
# These lock the trial's row (4), after the device's (1). SKIP LOCKED: a trial that somebody is
# changing is not waited for.
_SELECT_NEXT_TRIAL_FOR_UPDATE = _SELECT_READY_TRIAL.order_by(
    Trial.sweep_id, Trial.place
).with_for_update(of=Trial, skip_locked=True)
SELECT_NEXT_TRIAL_FOR_UPDATE = _SELECT_NEXT_TRIAL_FOR_UPDATE.where(~_DEVICE_HAS_OPEN_CHECK)
SELECT_CHECK_TRIAL_FOR_UPDATE = _SELECT_NEXT_TRIAL_FOR_UPDATE.where(Trial.id == bindparam("trial"))


def dispatch(farm: FarmContext, device_id: int) -> bool:
    """Give a device its next trial and publish its doorbell; false where there was nothing to give
    it, or it is busy or offline."""
    with farm.database.transaction() as session:
        device = lock_device(session, device_id)
        claimed = None if device is None else claim_next_trial(farm, session, device)
    if claimed is None:
        return False
    publish_doorbell(farm, claimed)
    return True


def lock_device(session: Session, device_id: int) -> ClaimingDevice | None:
    """A device, its row locked until the transaction ends; ``None`` where it was just retired."""
    row = (
        session.connection().execute(SELECT_DEVICE_FOR_UPDATE, {"device": device_id}).one_or_none()
    )
    return None if row is None else ClaimingDevice(*row)


def publish_doorbell(farm: FarmContext, claimed: ClaimedAttempt) -> None:
    """Announce an attempt to its device, after the claim's commit.

    A message that is lost costs the time until the dispatch lease runs out, and never a trial.
    """
    try:
        farm.publish_doorbell(claimed.device, claimed.attempt_id)
    except Exception as error:  # noqa: BLE001  the broker's client raises many kinds
        log.warning(
            "doorbell of %s not rung, its lease will bring it back: %s", claimed.device, error
        )


def has_work(farm: FarmContext, connection: Connection, device_id: int) -> bool:
    """Whether a claim could succeed. Locks nothing."""
    parameters = {"device": device_id, "now": farm.now()}
    return connection.execute(SELECT_READY_TRIAL_ID, parameters).first() is not None


def claim_next_trial(
    farm: FarmContext, session: Session, device: ClaimingDevice
) -> ClaimedAttempt | None:
    """Insert an attempt at the device's next trial; ``None`` where there is none, or the device is
    busy or offline.

    The caller has locked the device's row, and publishes the doorbell after the commit. Locks the
    trial's row.
    """
    if not online(farm, device.seen_at):
        return None
    row = _lock_next_trial(farm, session, device)
    if row is None:
        return None
    dispatched = lifecycle_of(row).to(TrialState.DISPATCHED)
    attempt_id = attempt_queries.insert_attempt(farm, session, device.id, row.id, dispatched)
    return ClaimedAttempt(device.name, attempt_id, row.sweep_id)


def _lock_next_trial(farm: FarmContext, session: Session, device: ClaimingDevice) -> Any:
    """The row of the device's next trial, locked; ``None`` where there is none.

    An open health check comes before everything else, and nothing else runs until it is judged. A
    device that is ill or drained gets no other trial.
    """
    parameters = {"device": device.id, "now": farm.now()}
    if device.enabled and device.health not in ILL:
        query = SELECT_NEXT_TRIAL_FOR_UPDATE
        row = session.connection().execute(query, parameters).one_or_none()
        if row is not None:
            return row
    check = health_check_rows.open_check(session, device.id)
    if check is None or (not device.enabled and check.why != CheckReason.ASKED):
        return None
    health_check_rows.store_canary_blobs(farm)
    parameters["trial"] = check.trial_id
    return session.connection().execute(SELECT_CHECK_TRIAL_FOR_UPDATE, parameters).one_or_none()
