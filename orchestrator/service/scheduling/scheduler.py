"""The reconciler: takes back expired leases and publishes doorbells, round after round.

Because of it a lost message or a lost board costs time, and never a trial.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from orchestrator.domain import retry
from orchestrator.domain.trial import TrialState, after_loss
from orchestrator.service import current_actor, rate_control
from orchestrator.service.context import FarmContext
from orchestrator.service.health import health_checks
from orchestrator.service.scheduling import connections
from orchestrator.service.scheduling.dispatch import dispatch, is_outstanding, ready_conditions
from orchestrator.service.scheduling.lease_watch import LeaseWatch
from orchestrator.service.trials import builds, circuit_breaker, completion
from orchestrator.service.trials.transitions import (
    apply,
    finish_sweep_if_done,
    lifecycle_of,
    lock_sweep,
)
from orchestrator.store.database import DATABASE_UNAVAILABLE, first_line
from orchestrator.store.tables import HEALTH, Attempt, Device, Trial

log = logging.getLogger(__name__)

IDLE_PAUSE_FACTOR, MAX_PAUSE_TICKS = 20, 4
"""After a round that published nothing the pause is this many times the round's duration, at most
this many ticks."""


def reclaim(farm: FarmContext, only_unanswered: bool = False) -> int:
    """Take back attempts whose lease ran out; returns how many.

    ``only_unanswered``: only those that no board has started, which costs none of a trial's
    attempts.
    """
    with farm.database.read_session() as session:
        query = select(Trial.sweep_id).where(*_expired_conditions(farm, only_unanswered)).distinct()
        affected = session.scalars(query).all()
    lost = [
        found
        for sweep_id in affected
        for found in _reclaim_of_sweep(farm, sweep_id, only_unanswered)
    ]
    for found in lost:
        if found.started:
            health_checks.judge_ended_check(farm, found.device_id)
            health_checks.request_check_after_failure(farm, found.attempt_id, None, lost=True)
    return len(lost)


@dataclass(frozen=True)
class _LostAttempt:
    device_id: int
    attempt_id: str
    started: bool


def _expired_conditions(
    farm: FarmContext, only_unanswered: bool
) -> tuple[ColumnElement[bool], ...]:
    """Conditions on trials and attempts: outstanding, and the lease has expired."""
    return (
        Trial.state == TrialState.DISPATCHED.value if only_unanswered else is_outstanding(),
        Attempt.trial_id == Trial.id,
        Attempt.number == Trial.attempt,
        Attempt.lease_until < farm.now(),
    )


def _reclaim_of_sweep(
    farm: FarmContext, sweep_id: int, only_unanswered: bool
) -> list[_LostAttempt]:
    now = farm.now()
    with farm.database.transaction() as session:
        sweep = lock_sweep(session, sweep_id)
        # a board that falls silent during its health check has not passed it
        budget = 1 if sweep.kind == HEALTH else sweep.attempts
        query = select(Trial).where(
            Trial.sweep_id == sweep_id, *_expired_conditions(farm, only_unanswered)
        )
        trials = session.scalars(query.with_for_update(of=Trial, skip_locked=True)).all()
        expired = [(a, t) for t in trials if (a := _last_attempt(session, t)).lease_until < now]
        for attempt, trial in expired:
            before = lifecycle_of(trial)
            after = before.to(after_loss(before, budget))
            apply(trial, after)
            # an unanswered doorbell is published again at once
            if before.state is TrialState.RUNNING and after.state is TrialState.PENDING:
                trial.not_before = now + retry.pause(after.spent, attempt.id)
            if after.state is TrialState.FAILED and sweep.kind != HEALTH:
                circuit_breaker.give_up_cell_if_hopeless(farm, session, sweep.name, trial.cell_id)
            builds.release_waiting_trials(session, trial, None)
            attempt.ended_at = now
            attempt.note = f"lease ran out while {before.state}"
            device = session.get_one(Device, attempt.device_id)
            farm.record_event(
                session,
                "attempt_lost",
                str(trial.id),
                sweep=sweep.name,
                device=device.name,
                attempt=attempt.number,
                state=after.state,
            )
        if expired:
            finish_sweep_if_done(farm, session, sweep_id)
        return [_LostAttempt(a.device_id, a.id, a.started_at is not None) for a, _ in expired]


def _last_attempt(session: Session, trial: Trial) -> Attempt:
    """The trial's last attempt, read under the trial's lock: a heartbeat may just have renewed
    it."""
    query = select(Attempt).where(Attempt.trial_id == trial.id, Attempt.number == trial.attempt)
    return session.scalars(query).one()


def tick(farm: FarmContext, leases_count: bool = True) -> int:
    """One round: reclaim expired leases, run the health checks' round, then publish doorbells
    within the budget. Returns the number of doorbells. ``leases_count``: see ``LeaseWatch``."""
    if rate_control.refresh_pace(farm):
        completion.finish_forgotten_sweeps(farm)
    reclaim(farm, only_unanswered=not leases_count)
    connections.record_changes(farm, silence_counts=leases_count)
    health_checks.run_round(farm)
    budget = rate_control.doorbell_budget(farm)
    published = sum(dispatch(farm, device_id) for device_id in _devices_to_ring(farm, budget))
    farm.rate_memory.doorbell_budget = budget - published
    return published


def _devices_to_ring(farm: FarmContext, limit: int) -> list[int]:
    """Devices with work, at most ``limit``: round-robin, so that none is served twice before
    all."""
    after, farm.rate_memory.last_device_id = farm.rate_memory.last_device_id, 0
    found = _devices_with_work(farm, Device.id > after, limit)
    if len(found) < limit and after:
        found += _devices_with_work(farm, Device.id <= after, limit - len(found))
    if found and len(found) == limit:
        farm.rate_memory.last_device_id = found[-1]
    return found


def _devices_with_work(farm: FarmContext, where: ColumnElement[bool], limit: int) -> list[int]:
    if not limit:
        return []
    # by device, not by trial: a sweep of 100 000 trials must not be read twice a second
    of_device = Trial.device_id == Device.id
    offline_after = timedelta(seconds=rate_control.current_pace(farm).offline_after_s)
    query = select(Device.id).where(
        where,
        Device.seen_at > farm.now() - offline_after,
        exists().where(of_device, *ready_conditions(farm.now())),
        ~exists().where(of_device, is_outstanding()),
    )
    with farm.database.read_session() as session:
        return list(session.scalars(query.order_by(Device.id).limit(limit)))


class Scheduler:
    """Calls ``tick`` in a thread until stopped; a round that fails is logged, the next one
    tried."""

    def __init__(self, farm: FarmContext) -> None:
        self._farm = farm
        self._watch = LeaseWatch(farm)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="scheduler", daemon=True)

    def __enter__(self) -> Scheduler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _loop(self) -> None:
        current_actor.set_actor(current_actor.SCHEDULER)
        unavailable, pause_s = False, self._farm.settings.tick_s
        while not self._stop.wait(pause_s):
            pause_s, began = self._farm.settings.tick_s, time.monotonic()
            try:
                leases_count = self._watch.leases_count()
                if not tick(self._farm, leases_count):  # idle: do not load the database
                    took_s = time.monotonic() - began
                    pause_s = min(
                        max(pause_s, IDLE_PAUSE_FACTOR * took_s), MAX_PAUSE_TICKS * pause_s
                    )
                unavailable = False
            except DATABASE_UNAVAILABLE as error:
                if not unavailable:  # an hour without database is one line
                    log.warning("the database does not answer: %s", first_line(error))
                unavailable = True
            except Exception:
                log.exception("scheduler round failed; trying again")
