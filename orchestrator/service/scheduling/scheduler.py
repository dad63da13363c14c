"""The loop that makes lost messages and lost boards cost time only."""

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
from orchestrator.service.scheduling.dispatch import dispatch, is_outstanding, ready
from orchestrator.service.scheduling.lease_watch import LeaseWatch
from orchestrator.service.trials import builds, circuit_breaker, completion
from orchestrator.service.trials.transitions import apply, finish_if_done, lifecycle_of, lock
from orchestrator.store.database import AWAY, first_line
from orchestrator.store.tables import HEALTH, Attempt, Device, Trial

log = logging.getLogger(__name__)

BUSY, LONGEST_TICKS = 20, 4
"""A round that had nothing to ring is followed by a pause so many times as long as it was, and by
at most so many ticks."""


def reclaim(farm: FarmContext, unanswered: bool = False) -> int:
    """Take back every attempt whose lease ran out; returns how many. ``unanswered``: only those
    that no board has begun, which costs none of a trial's tries."""
    with farm.database.snapshot() as session:
        query = select(Trial.sweep_id).where(*_expired(farm, unanswered)).distinct()
        affected = session.scalars(query).all()
    lost = [found for sweep_id in affected for found in _reclaim(farm, sweep_id, unanswered)]
    for found in lost:
        if found.started:
            health_checks.settle(farm, found.device_id)
            health_checks.after_failure(farm, found.attempt_id, None, lost=True)
    return len(lost)


@dataclass(frozen=True)
class _Lost:
    device_id: int
    attempt_id: str
    started: bool


def _expired(farm: FarmContext, unanswered: bool) -> tuple[ColumnElement[bool], ...]:
    """Of trials: an attempt is outstanding and its lease ran out."""
    return (
        Trial.state == TrialState.DISPATCHED.value if unanswered else is_outstanding(),
        Attempt.trial_id == Trial.id,
        Attempt.number == Trial.attempt,
        Attempt.lease_until < farm.now(),
    )


def _reclaim(farm: FarmContext, sweep_id: int, unanswered: bool) -> list[_Lost]:
    now = farm.now()
    with farm.database.transaction() as session:
        sweep = lock(session, sweep_id)
        # a board that falls silent during its health check has not passed it
        budget = 1 if sweep.kind == HEALTH else sweep.attempts
        query = select(Trial).where(Trial.sweep_id == sweep_id, *_expired(farm, unanswered))
        trials = session.scalars(query.with_for_update(of=Trial, skip_locked=True)).all()
        expired = [(a, t) for t in trials if (a := _attempt(session, t)).lease_until < now]
        for attempt, trial in expired:
            before = lifecycle_of(trial)
            after = before.to(after_loss(before, budget))
            apply(trial, after)
            # a doorbell that nobody answered is rung again at once
            if before.state is TrialState.RUNNING and after.state is TrialState.PENDING:
                trial.not_before = now + retry.pause(after.spent, attempt.id)
            if after.state is TrialState.FAILED and sweep.kind != HEALTH:
                circuit_breaker.give_up(farm, session, sweep.name, trial.cell_id)
            builds.settle(session, trial, None)
            attempt.ended_at = now
            attempt.note = f"lease ran out while {before.state}"
            farm.note(
                session, "attempt_lost", str(trial.id), attempt=attempt.number, state=after.state
            )
        if expired:
            finish_if_done(farm, session, sweep_id)
        return [_Lost(a.device_id, a.id, a.started_at is not None) for a, _ in expired]


def _attempt(session: Session, trial: Trial) -> Attempt:
    """The last attempt, read after its trial was locked: a heartbeat may just have renewed it."""
    query = select(Attempt).where(Attempt.trial_id == trial.id, Attempt.number == trial.attempt)
    return session.scalars(query).one()


def tick(farm: FarmContext, judges: bool = True) -> int:
    """One round: reclaim, see to the health checks, then ring devices that have work waiting, as
    many as there is room for. Returns doorbells rung. ``judges``: see ``LeaseWatch``."""
    if rate_control.look(farm):
        completion.close_forgotten(farm)
    reclaim(farm, unanswered=not judges)
    health_checks.round_(farm)
    room = rate_control.room(farm)
    rung = sum(dispatch(farm, device_id) for device_id in _turns(farm, room))
    farm.memory.room = room - rung
    return rung


def _turns(farm: FarmContext, room: int) -> list[int]:
    """Devices to be rung, so many at most: each has its turn before any has its second."""
    after, farm.memory.after = farm.memory.after, 0
    found = _waiting(farm, Device.id > after, room)
    if len(found) < room and after:
        found += _waiting(farm, Device.id <= after, room - len(found))
    if found and len(found) == room:
        farm.memory.after = found[-1]
    return found


def _waiting(farm: FarmContext, where: ColumnElement[bool], most: int) -> list[int]:
    if not most:
        return []
    # by device, not by trial: a sweep of a hundred thousand must not be read twice a second,
    # nor a device be locked that has its attempt
    mine = Trial.device_id == Device.id
    offline_after = timedelta(seconds=rate_control.present(farm).offline_after_s)
    query = select(Device.id).where(
        where,
        Device.seen_at > farm.now() - offline_after,
        exists().where(mine, *ready(farm.now())),
        ~exists().where(mine, is_outstanding()),
    )
    with farm.database.snapshot() as session:
        return list(session.scalars(query.order_by(Device.id).limit(most)))


class Scheduler:
    """``tick`` in a thread until stopped; a failing round is logged and the next one tried."""

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
        current_actor.become(current_actor.SCHEDULER)
        away, pause_s = False, self._farm.settings.tick_s
        while not self._stop.wait(pause_s):
            pause_s, began = self._farm.settings.tick_s, time.monotonic()
            try:
                judges = self._watch.look()
                if not tick(self._farm, judges):  # else looking is all that would be done
                    took_s = time.monotonic() - began
                    pause_s = min(max(pause_s, BUSY * took_s), LONGEST_TICKS * pause_s)
                away = False
            except AWAY as error:
                if not away:  # an hour without database is one line
                    log.warning("the database does not answer: %s", first_line(error))
                away = True
            except Exception:
                log.exception("scheduler round failed; trying again")
