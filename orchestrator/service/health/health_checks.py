"""Health checks: requested, judged, and what follows from the verdict.

Lock order: the device's row before any sweep's or trial's. Therefore a check is judged in another
transaction than the one that accepts its result; until then the device is given nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import numpy as np
from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from agent.contract import codec
from agent.contract.trial import Failure, Samples, TrialResult
from orchestrator.domain import health
from orchestrator.domain.errors import Conflict, FarmError, NotFound
from orchestrator.domain.health import CheckReading, CheckReason, CheckVerdict, Health, HealthState
from orchestrator.domain.trial import FINAL, TrialState
from orchestrator.service import rate_control
from orchestrator.service.context import FarmContext
from orchestrator.service.device_state import facts_of, online
from orchestrator.service.devices import devices as fleet
from orchestrator.service.devices import health_check_rows
from orchestrator.service.trials.samples import decode
from orchestrator.service.trials.transitions import apply, lifecycle_of
from orchestrator.service.views import DeviceView, HealthCheckView
from orchestrator.store.database import DATABASE_UNAVAILABLE
from orchestrator.store.tables import HEALTH, Attempt, Device, HealthCheck, Sweep, Trial

log = logging.getLogger(__name__)

RETRY_PAUSE = timedelta(seconds=2)
"""Pause before an interrupted check is repeated."""


# --- requesting checks


def request_check(farm: FarmContext, name: str) -> HealthCheckView:
    """Request a check of a device now, even if it is drained or in maintenance; an open check is
    returned instead.

    Raises:
        NotFound: no such device.
        Conflict: it has not joined, or has not reported its runtimes.
    """
    with farm.database.transaction() as session:
        device = _lock_device(session, fleet.find(session, name).id)
        facts = facts_of(device)
        if facts is None:
            raise Conflict(f"device {name!r} has not joined yet; `benchfarm device add` it")
        if not facts.runtimes:
            raise Conflict(f"device {name!r} has not said yet what it can run; is its agent up?")
        check = health_check_rows.open_check(session, device.id)
        if check is None:
            check = _insert_check(farm, session, device, CheckReason.ASKED)
        check.why = CheckReason.ASKED.value
        session.flush()
        return check_view(session, check, device.name)


def _lock_device(session: Session, device_id: int) -> Device:
    """The device's row as it is now, locked until the transaction ends."""
    return session.get_one(Device, device_id, with_for_update=True, populate_existing=True)


def _insert_check(farm: FarmContext, session: Session, device: Device, why: str) -> HealthCheck:
    facts = facts_of(device)
    assert facts is not None
    check = health_check_rows.insert_check(farm, session, device, facts, why)
    if check.ended_at is not None:
        _apply_verdict(farm, session, device, check, CheckVerdict(None, tuple(check.reasons)))
    return check


def _request_unless_unwanted(farm: FarmContext, session: Session, device: Device, why: str) -> None:
    """Insert a check, unless one is open, or checks are off, or the device is drained, in
    maintenance or without runtimes. The caller has locked the device's row."""
    facts = facts_of(device)
    if (
        farm.settings.health_every_s > 0
        and device.enabled
        and device.health != Health.MAINTENANCE
        and facts is not None
        and facts.runtimes
        and health_check_rows.open_check(session, device.id) is None
    ):
        _insert_check(farm, session, device, why)


def request_checks_before_sweep(
    farm: FarmContext, session: Session, name: str, devices: Iterable[int]
) -> None:
    """Request checks of those of ``devices`` that had no good one within ``health_fresh_s``.

    Locks the devices' rows in the order of their ids; the caller has locked no sweep or trial.
    """
    if farm.settings.health_every_s <= 0:
        return
    stale = farm.now() - timedelta(seconds=farm.settings.health_fresh_s)
    for device_id in sorted(set(devices)):
        device = _lock_device(session, device_id)
        good = health_check_rows.last_good_check(session, device_id)
        if good is None or good.ended_at is None or good.ended_at < stale:
            _request_unless_unwanted(farm, session, device, f"{CheckReason.BEFORE_SWEEP} {name}")


def request_check_after_failure(
    farm: FarmContext, attempt_id: str, failure: Failure | None, lost: bool = False
) -> None:
    """Request a check of a device where the failure of its attempt may be the board's fault.

    Calling it again for the same attempt changes nothing. Locks the device's row.
    """
    if farm.settings.health_every_s <= 0 or not (lost or health.may_be_the_board(failure)):
        return
    with farm.database.transaction() as session:
        attempt = session.get(Attempt, attempt_id)
        if attempt is None:  # the device was retired meanwhile
            return
        trial = session.get_one(Trial, attempt.trial_id)
        device = _lock_device(session, attempt.device_id)
        hidden = session.get_one(Sweep, trial.sweep_id).kind == HEALTH
        if (
            not hidden
            and not _was_checked_since(session, attempt)
            and not _board_was_cleared(session, trial)
        ):
            _request_unless_unwanted(farm, session, device, CheckReason.AFTER_FAILURE)


def _was_checked_since(session: Session, attempt: Attempt) -> bool:
    later = select(HealthCheck.id).where(
        HealthCheck.device_id == attempt.device_id, HealthCheck.asked_at >= attempt.ended_at
    )
    return session.scalar(later.limit(1)) is not None


def _board_was_cleared(session: Session, trial: Trial) -> bool:
    """Whether the board was found good after another trial of the same cell failed: then the cell
    is at fault, and a check after each of its trials would say nothing new."""
    good = health_check_rows.last_good_check(session, trial.device_id)
    if good is None:
        return False
    before = (
        select(Attempt.id)
        .join(Trial, Attempt.trial_id == Trial.id)
        .where(Trial.cell_id == trial.cell_id, Trial.id != trial.id)
        .where(Trial.state == TrialState.FAILED.value, Attempt.ended_at <= good.asked_at)
    )
    return session.scalar(before.limit(1)) is not None


# --- called by the scheduler


def run_round(farm: FarmContext) -> None:
    """Judge the checks that have ended, and request those that are due."""
    work = [
        *((judge_ended_check, d) for d in health_check_rows.devices_with_ended_check(farm)),
        *((_request_if_due, d) for d in _due_devices(farm)),
    ]
    for act, device_id in work:
        try:
            act(farm, device_id)
        except DATABASE_UNAVAILABLE:  # the next device would fail too
            raise
        except Exception:  # one device must not stop the others
            log.exception("health of device %d: trying again", device_id)


def _request_if_due(farm: FarmContext, device_id: int) -> None:
    with farm.database.transaction() as session:
        device = _lock_device(session, device_id)
        if _is_due(farm, device):
            why = CheckReason.SCHEDULE if device.checked_at else CheckReason.REGISTRATION
            _request_unless_unwanted(farm, session, device, why)
        session.flush()
        unused = health_check_rows.delete_old_checks(
            session, device_id
        )  # where nothing can run, nothing is judged either
    farm.free_blobs(unused)


def _due_devices(farm: FarmContext) -> list[int]:
    if farm.settings.health_every_s <= 0:
        return []
    settings, now = farm.settings, farm.now()
    open_ = exists().where(HealthCheck.device_id == Device.id, HealthCheck.ended_at.is_(None))
    # the same rule as ``_is_due``, which is applied under the lock to the few devices found here
    due = or_(
        Device.checked_at.is_(None),
        (Device.checks_failed == 0)
        & (Device.checked_at <= now - timedelta(seconds=settings.health_every_s)),
        (Device.checks_failed > 0)
        & (Device.checked_at <= now - timedelta(seconds=settings.health_retry_s)),
    )
    offline_after = timedelta(seconds=rate_control.current_pace(farm).offline_after_s)
    query = select(Device.id).where(
        Device.enabled,
        Device.health != Health.MAINTENANCE,
        Device.seen_at > now - offline_after,
        due,
        ~open_,
    )
    with farm.database.read_connection() as connection:
        return list(connection.execute(query).scalars())


def _is_due(farm: FarmContext, device: Device) -> bool:
    if not online(farm, device.seen_at):
        return False
    settings = farm.settings
    pause_s = settings.health_retry_s if device.checks_failed else settings.health_every_s
    return device.checked_at is None or farm.now() - device.checked_at >= timedelta(seconds=pause_s)


# --- judging


def judge_ended_check(farm: FarmContext, device_id: int) -> None:
    """Judge the device's check, exactly once, if its trial has ended. Locks the device's row."""
    if not health_check_rows.has_ended_check(farm, device_id):
        return
    with farm.database.transaction() as session:
        device = _lock_device(session, device_id)
        check = health_check_rows.open_check(session, device_id)
        if check is None:
            return
        trial = session.get_one(Trial, check.trial_id)
        if TrialState(trial.state) not in FINAL:
            return
        reading = _reading(farm, session, device, check, trial)
        history = health_check_rows.latency_history_ms(session, device, check)
        verdict = health.judge(health_check_rows.policy_of(device), reading, history)
        if verdict.again:
            apply(trial, lifecycle_of(trial).to(TrialState.PENDING))
            trial.not_before = farm.now() + RETRY_PAUSE
            return
        check.ended_at, check.ok, check.reasons = farm.now(), verdict.ok, list(verdict.reasons)
        check.latency_ms, check.temperature_c = reading.latency_ms, reading.temperature_c
        check.storage_free_mib, check.clock_skew_s = reading.storage_free_mib, reading.clock_skew_s
        _apply_verdict(farm, session, device, check, verdict)
        session.flush()
        unused = health_check_rows.delete_old_checks(session, device_id)
    farm.free_blobs(unused)


def _apply_verdict(
    farm: FarmContext, session: Session, device: Device, check: HealthCheck, verdict: CheckVerdict
) -> None:
    """Write the device's health that follows from the verdict, and record the change as an
    event."""
    before = _health_state(device)
    after = before.after(verdict)
    device.health, device.checks_failed = after.health.value, after.failed
    device.health_reasons, device.checked_at = list(verdict.reasons), check.ended_at
    data = {"reasons": list(verdict.reasons), "why": check.why}
    if after.health is Health.BAD and before.health is not Health.BAD:
        farm.record_event(session, "device_quarantined", device.name, **data)
    elif before.health is Health.BAD and after.health is Health.GOOD:
        farm.record_event(session, "device_restored", device.name, why=check.why)
    elif verdict.ok is False:
        farm.record_event(session, "health_check_failed", device.name, **data)


def _health_state(device: Device) -> HealthState:
    return HealthState(Health(device.health), device.checks_failed)


def _reading(
    farm: FarmContext, session: Session, device: Device, check: HealthCheck, trial: Trial
) -> CheckReading:
    query = select(Attempt).where(Attempt.trial_id == trial.id, Attempt.number == trial.attempt)
    attempt = session.scalars(query).one()
    check.attempt_id = attempt.id
    if attempt.result is None or not attempt.accepted:
        return CheckReading(status="failed", lost=True)
    result = codec.from_plain(TrialResult, attempt.result)
    reading = CheckReading(
        status=result.status,
        failure=result.failure,
        outputs_right=result.fidelity.passed if result.fidelity else None,
        temperature_c=device.temperature_c,
        storage_free_mib=device.storage_free_mib,
        clock_skew_s=device.clock_skew_s,
        usual_skew_s=_usual_skew_s(farm, session, device),
    )
    if result.status != "ok" or result.samples is None:
        return reading
    try:
        return replace(reading, latency_ms=_median_ms(farm, result.samples))
    except FarmError as error:
        return replace(reading, status="failed", failure=Failure("measure", "io", str(error)))


def _usual_skew_s(farm: FarmContext, session: Session, device: Device) -> float:
    if abs(device.clock_skew_s or 0.0) <= health.SKEW_LIMIT_S:
        return 0.0
    since = farm.now() - timedelta(seconds=rate_control.current_pace(farm).offline_after_s)
    beating = (Device.seen_at > since, Device.clock_skew_s.is_not(None))
    return health.usual_skew_s(list(session.scalars(select(Device.clock_skew_s).where(*beating))))


def _median_ms(farm: FarmContext, samples: Samples) -> float:
    """Raises ``DamagedSamples`` or ``NotFound``."""
    found = decode(samples, farm.blobs.read(samples.sha256))
    return float(np.median(found[0])) / 1e6


# --- requested by people


def set_maintenance(farm: FarmContext, name: str, on: bool) -> DeviceView:
    """Put a device into maintenance or take it out of it.

    Afterwards its health is unknown until a check, and latencies are not compared with earlier
    ones: its power mode may have changed.
    """
    with farm.database.transaction() as session:
        device = _lock_device(session, fleet.find(session, name).id)
        before = _health_state(device)
        after = before.maintained(on)
        if after != before:
            device.health, device.checks_failed = after.health.value, after.failed
            farm.record_event(session, "device_maintenance", name, on=on)
            if not on:
                device.health_reasons, device.baseline_at = [], farm.now()
                _request_unless_unwanted(farm, session, device, CheckReason.AFTER_MAINTENANCE)
        return fleet.device_view(farm, device)


def latest_checks(farm: FarmContext, name: str, limit: int) -> list[HealthCheckView]:
    """At most ``limit`` checks of a device, the latest first. Raises ``NotFound``."""
    with farm.database.read_session() as session:
        device = fleet.find(session, name)
        query = select(HealthCheck).where(HealthCheck.device_id == device.id)
        rows = session.scalars(query.order_by(HealthCheck.id.desc()).limit(limit))
        return [check_view(session, row, name) for row in rows]


def find_check(farm: FarmContext, name: str, number: int) -> HealthCheckView:
    """Raises ``NotFound``."""
    with farm.database.read_session() as session:
        device = fleet.find(session, name)
        check = session.get(HealthCheck, number)
        if check is None or check.device_id != device.id:
            raise NotFound("health check", f"{name} {number}", [])
        return check_view(session, check, name)


def check_view(session: Session, check: HealthCheck, device: str) -> HealthCheckView:
    trial = session.get(Trial, check.trial_id) if check.trial_id else None
    return HealthCheckView(
        id=check.id,
        device=device,
        why=check.why,
        state="ended" if check.ended_at or trial is None else trial.state,
        runtime=check.runtime,
        asked_at=check.asked_at,
        ended_at=check.ended_at,
        ok=check.ok,
        reasons=list(check.reasons),
        latency_ms=check.latency_ms,
        temperature_c=check.temperature_c,
        storage_free_mib=check.storage_free_mib,
        clock_skew_s=check.clock_skew_s,
        attempt=check.attempt_id,
    )
