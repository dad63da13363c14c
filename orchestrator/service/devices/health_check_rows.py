"""Rows of health checks: each is a trial in a sweep of its device's own, which nobody is shown.

So leases, fencing, a fresh process and the outbox serve checks as they serve measurements.
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

KEPT = 100
"""Checks of a device that are kept, with what they ran."""
TOGETHER = 20
"""So many more are deleted at once: what is freed is looked up in all tables."""
TRIES = 2
"""Attempts that a transient failure, or an agent that was stopped, leaves a check."""
_SAMPLES = Attempt.result["samples"]["sha256"].as_string()
SCENARIO = Scenario(min_duration_s=0.2, max_duration_s=1.0, warm_up_s=0.1, min_samples=50)
LIMITS = Limits(convert_s=300.0, trial_s=120.0)


def hidden_name(device: str) -> str:
    """No sweep of a person's can be called so: of its letters the slash is not allowed there."""
    return f"health/{device}"


def policy_of(device: Device) -> HealthPolicy:
    found = (c.health for c in device_classes() if c.name == device.device_class)
    return next(found, HealthPolicy())


def current(session: Session, device_id: int) -> HealthCheck | None:
    """The check that is pending or runs; a device has one at most."""
    query = select(HealthCheck).where(HealthCheck.device_id == device_id)
    return session.scalar(query.where(HealthCheck.ended_at.is_(None)))


def add(
    farm: FarmContext, session: Session, device: Device, facts: DeviceFacts, why: str
) -> HealthCheck:
    """Write a check and its trial; where no runtime can run it, one that has ended and says so.

    The caller holds the device's row, which has no open check.
    """
    chosen = health.choose(policy_of(device), facts)
    check = HealthCheck(device_id=device.id, why=why, asked_at=farm.now(), reasons=[])
    session.add(check)
    if chosen is None:
        check.ended_at, check.reasons = farm.now(), [health.NO_RUNTIME]
        return check
    supply(farm)
    sweep = _hidden(farm, session, device)
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


def refresh(session: Session, device: Device, facts: DeviceFacts) -> None:
    """Have a check that nobody has taken up yet run what the device can run now."""
    check = current(session, device.id)
    if check is None:
        return
    trial = session.get_one(Trial, check.trial_id)
    chosen = health.choose(policy_of(device), facts)
    if chosen is not None and trial.state == TrialState.PENDING.value:
        session.get_one(Cell, trial.cell_id).request = codec.to_plain(_request(chosen))
        check.runtime = str(chosen)


def supply(farm: FarmContext) -> None:
    """Have the model's files where boards fetch them."""
    for data in canary().blobs:
        if not farm.blobs.has(digest(data)):
            farm.blobs.put(data)


def _hidden(farm: FarmContext, session: Session, device: Device) -> Sweep:
    name = hidden_name(device.name)
    sweep = session.scalar(select(Sweep).where(Sweep.name == name))
    if sweep is None:
        sweep = Sweep(
            name=name, spec={}, spec_text="", attempts=TRIES, kind=HEALTH, created_at=farm.now()
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
        scenario=SCENARIO,
        reference=canary().reference,
        tolerance=Tolerance(health.MIN_COSINE, 0.0),
        limits=LIMITS,
    )


def history(session: Session, device: Device, check: HealthCheck) -> list[float]:
    """Milliseconds of the canary in the last good checks of its device with its runtime, since the
    device is what it is."""
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


_OVER = (
    select(HealthCheck.device_id)
    .join(Trial, HealthCheck.trial_id == Trial.id)
    .where(HealthCheck.ended_at.is_(None), Trial.state.in_([s.value for s in FINAL]))
)
_OVER_THERE = _OVER.where(HealthCheck.device_id == bindparam("device"))


def over(farm: FarmContext) -> Sequence[int]:
    """Devices whose check's trial has ended and was not judged yet."""
    with farm.database.look() as connection:
        return connection.execute(_OVER).scalars().all()


def is_over(farm: FarmContext, device_id: int) -> bool:
    """Whether that device is one of those which are ``over``."""
    with farm.database.look() as connection:
        return connection.execute(_OVER_THERE, {"device": device_id}).first() is not None


def last_good(session: Session, device_id: int) -> HealthCheck | None:
    query = select(HealthCheck).where(HealthCheck.device_id == device_id, HealthCheck.ok.is_(True))
    return session.scalar(query.order_by(HealthCheck.id.desc()).limit(1))


def trim(session: Session, device_id: int, kept: int = KEPT, together: int = TOGETHER) -> set[str]:
    """Delete all but the last checks that have ended, ``together`` at least; what of samples nobody
    else refers to, to be discarded once this is committed."""
    old = session.execute(
        select(HealthCheck.id, HealthCheck.trial_id)
        .where(HealthCheck.device_id == device_id, HealthCheck.ended_at.is_not(None))
        .order_by(HealthCheck.id.desc())
        .offset(kept)
    ).all()
    if len(old) < together:
        return set()
    return _delete(session, device_id, [i for i, _ in old], [t for _, t in old if t is not None])


def forget(session: Session, device: Device) -> set[str]:
    """Delete everything of a device's checks; samples as ``trim``."""
    query = select(HealthCheck.id, HealthCheck.trial_id).where(HealthCheck.device_id == device.id)
    rows = session.execute(query).all()
    samples = _delete(session, device.id, [i for i, _ in rows], [t for _, t in rows if t])
    session.execute(delete(Sweep).where(Sweep.name == hidden_name(device.name)))
    return samples


def _delete(
    session: Session, device_id: int, checks: Sequence[int], trials: Sequence[int]
) -> set[str]:
    if not checks:
        return set()
    used = select(_SAMPLES).where(_SAMPLES.is_not(None))
    gone = set(session.scalars(used.where(Attempt.trial_id.in_(trials))))
    cells = session.scalars(select(Trial.cell_id).where(Trial.id.in_(trials))).all()
    session.execute(delete(HealthCheck).where(HealthCheck.id.in_(checks)))
    session.execute(delete(Attempt).where(Attempt.trial_id.in_(trials)))
    session.execute(delete(Trial).where(Trial.id.in_(trials)))
    session.execute(delete(Cell).where(Cell.id.in_(cells)))
    # they are nanoseconds: two boards never have the same
    mine = used.where(Attempt.device_id == device_id, _SAMPLES.in_(gone))
    return gone - set(session.scalars(mine))
