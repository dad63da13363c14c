"""Rows of health checks: each check is a trial in a hidden sweep of its device.

Therefore checks use the same leases, fencing, fresh process and outbox as measurements.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, select
from sqlalchemy.orm import Session

from agent.contract import codec
from agent.contract.device import DeviceFacts
from agent.contract.trial import SCHEMA, Limits, RuntimeRef, Scenario, Tolerance, TrialRequest
from orchestrator.domain import health
from orchestrator.domain.device_class import HealthPolicy
from orchestrator.domain.health import CheckConfiguration
from orchestrator.domain.trial import FINAL, TrialState
from orchestrator.service.context import FarmContext
from orchestrator.store.device_class_files import device_classes
from orchestrator.store.health_model import canary, digest
from orchestrator.store.tables import HEALTH, Attempt, Cell, Device, HealthCheck, Sweep, Trial

KEPT_CHECKS = 100
"""Checks of a device that are kept, with their trials."""
TRIM_BATCH = 20
"""Old checks are deleted this many at a time: freeing their blobs reads all tables."""
CHECK_ATTEMPTS = 2
"""Attempts of a check's trial after a transient failure or a stopped agent."""
_SAMPLES_SHA256 = Attempt.result["samples"]["sha256"].as_string()
CHECK_SCENARIO = Scenario(min_duration_s=0.2, max_duration_s=1.0, warm_up_s=0.1, min_samples=50)
CHECK_LIMITS = Limits(convert_s=300.0, trial_s=120.0)


def hidden_sweep_name(device: str) -> str:
    """The name of a device's hidden sweep; people's sweeps cannot have a slash in their names."""
    return f"health/{device}"


def policy_of(device: Device) -> HealthPolicy:
    found = (c.health for c in device_classes() if c.name == device.device_class)
    return next(found, HealthPolicy())


def open_check(session: Session, device_id: int) -> HealthCheck | None:
    """The device's check that has not ended; it has one at most."""
    query = select(HealthCheck).where(HealthCheck.device_id == device_id)
    return session.scalar(query.where(HealthCheck.ended_at.is_(None)))


def insert_check(
    farm: FarmContext, session: Session, device: Device, facts: DeviceFacts, why: str
) -> HealthCheck:
    """Insert a check and its trial; one that has ended already where no runtime can run it.

    The caller has locked the device's row, which has no open check.
    """
    chosen = health.choose(policy_of(device), facts)
    check = HealthCheck(device_id=device.id, why=why, asked_at=farm.now(), reasons=[])
    session.add(check)
    if chosen is None:
        check.ended_at, check.reasons = farm.now(), [health.NO_RUNTIME]
        return check
    store_canary_blobs(farm)
    sweep = _hidden_sweep(farm, session, device)
    cell = Cell(
        sweep_id=sweep.id,
        device_id=device.id,
        model=health.MODEL,
        configuration={"label": "health check"},
        request=codec.to_plain(_request(chosen)),
    )
    session.add(cell)
    session.flush()
    trial = Trial(sweep_id=sweep.id, cell_id=cell.id, device_id=device.id, number=0, place=0)
    session.add(trial)
    session.flush()
    check.trial_id, check.runtime = trial.id, str(chosen)
    return check


def update_pending_check(session: Session, device: Device, facts: DeviceFacts) -> None:
    """Make a check that has not been started run with a runtime that the device has now."""
    check = open_check(session, device.id)
    if check is None:
        return
    trial = session.get_one(Trial, check.trial_id)
    chosen = health.choose(policy_of(device), facts)
    if chosen is not None and trial.state == TrialState.PENDING.value:
        session.get_one(Cell, trial.cell_id).request = codec.to_plain(_request(chosen))
        check.runtime = str(chosen)


def store_canary_blobs(farm: FarmContext) -> None:
    """Store the health check's files as blobs, where they are missing."""
    for data in canary().blobs:
        if not farm.blobs.has(digest(data)):
            farm.blobs.put(data)


def _hidden_sweep(farm: FarmContext, session: Session, device: Device) -> Sweep:
    name = hidden_sweep_name(device.name)
    sweep = session.scalar(select(Sweep).where(Sweep.name == name))
    if sweep is None:
        sweep = Sweep(
            name=name,
            spec={},
            spec_text="",
            attempts=CHECK_ATTEMPTS,
            kind=HEALTH,
            created_at=farm.now(),
        )
        session.add(sweep)
        session.flush()
    return sweep


def _request(chosen: CheckConfiguration) -> TrialRequest:
    return TrialRequest(
        schema=SCHEMA,
        attempt_id="",
        trial_id="",
        model=canary().model(chosen.format),
        # one thread: a tiny network on all cores would time the scheduler
        runtime=RuntimeRef(chosen.backend, chosen.version, chosen.target, threads=1),
        scenario=CHECK_SCENARIO,
        reference=canary().reference,
        tolerance=Tolerance(health.MIN_COSINE, 0.0),
        limits=CHECK_LIMITS,
    )


def latency_history_ms(session: Session, device: Device, check: HealthCheck) -> list[float]:
    """Latencies, ms, of the device's last good checks with the check's runtime since its
    ``baseline_at``."""
    query = (
        select(HealthCheck.latency_ms)
        .where(HealthCheck.device_id == check.device_id, HealthCheck.ok.is_(True))
        .where(HealthCheck.runtime == check.runtime, HealthCheck.latency_ms.is_not(None))
        .order_by(HealthCheck.id.desc())
        .limit(health.HISTORY)
    )
    if device.baseline_at is not None:
        query = query.where(HealthCheck.asked_at >= device.baseline_at)
    return [value for value in session.scalars(query) if value is not None]


# These lock nothing; ``health_checks.judge_ended_check`` locks the device and reads the check
# again.
SELECT_DEVICES_WITH_ENDED_CHECK = (
    select(HealthCheck.device_id)
    .join(Trial, HealthCheck.trial_id == Trial.id)
    .where(HealthCheck.ended_at.is_(None), Trial.state.in_([s.value for s in FINAL]))
)
SELECT_DEVICE_WITH_ENDED_CHECK = SELECT_DEVICES_WITH_ENDED_CHECK.where(
    HealthCheck.device_id == bindparam("device")
)


def devices_with_ended_check(farm: FarmContext) -> Sequence[int]:
    """Ids of devices whose check's trial has ended and has not been judged."""
    with farm.database.read_connection() as connection:
        return connection.execute(SELECT_DEVICES_WITH_ENDED_CHECK).scalars().all()


def has_ended_check(farm: FarmContext, device_id: int) -> bool:
    """Whether the device is one of ``devices_with_ended_check``."""
    with farm.database.read_connection() as connection:
        return (
            connection.execute(SELECT_DEVICE_WITH_ENDED_CHECK, {"device": device_id}).first()
            is not None
        )


def last_good_check(session: Session, device_id: int) -> HealthCheck | None:
    query = select(HealthCheck).where(HealthCheck.device_id == device_id, HealthCheck.ok.is_(True))
    return session.scalar(query.order_by(HealthCheck.id.desc()).limit(1))


def delete_old_checks(
    session: Session, device_id: int, kept: int = KEPT_CHECKS, together: int = TRIM_BATCH
) -> set[str]:
    """Delete all but the last ``kept`` ended checks, where that is ``together`` or more.

    Returns digests of samples that nothing else refers to; free them after the commit.
    """
    old = session.execute(
        select(HealthCheck.id, HealthCheck.trial_id)
        .where(HealthCheck.device_id == device_id, HealthCheck.ended_at.is_not(None))
        .order_by(HealthCheck.id.desc())
        .offset(kept)
    ).all()
    if len(old) < together:
        return set()
    return _delete_checks(
        session, device_id, [i for i, _ in old], [t for _, t in old if t is not None]
    )


def delete_all_checks(session: Session, device: Device) -> set[str]:
    """Delete all checks of a device and its hidden sweep; returns as ``delete_old_checks``."""
    query = select(HealthCheck.id, HealthCheck.trial_id).where(HealthCheck.device_id == device.id)
    rows = session.execute(query).all()
    samples = _delete_checks(session, device.id, [i for i, _ in rows], [t for _, t in rows if t])
    session.execute(delete(Sweep).where(Sweep.name == hidden_sweep_name(device.name)))
    return samples


def _delete_checks(
    session: Session, device_id: int, checks: Sequence[int], trials: Sequence[int]
) -> set[str]:
    if not checks:
        return set()
    used = select(_SAMPLES_SHA256).where(_SAMPLES_SHA256.is_not(None))
    samples = set(session.scalars(used.where(Attempt.trial_id.in_(trials))))
    cells = session.scalars(select(Trial.cell_id).where(Trial.id.in_(trials))).all()
    session.execute(delete(HealthCheck).where(HealthCheck.id.in_(checks)))
    session.execute(delete(Attempt).where(Attempt.trial_id.in_(trials)))
    session.execute(delete(Trial).where(Trial.id.in_(trials)))
    session.execute(delete(Cell).where(Cell.id.in_(cells)))
    # only among its own: samples in nanoseconds of two boards are never equal
    still_used = used.where(Attempt.device_id == device_id, _SAMPLES_SHA256.in_(samples))
    return samples - set(session.scalars(still_used))
