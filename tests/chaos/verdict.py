"""What must be true when it is over: looked up in the database, the folders and the processes."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np
import zstandard
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from agent.contract import codec
from agent.contract.trial import TrialResult
from orchestrator.domain.health import Health
from orchestrator.domain.trial import FINAL, OUTSTANDING, TrialState
from orchestrator.store.backup.integrity_check import findings
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.tables import (
    HEALTH,
    SWEEP,
    Attempt,
    Device,
    Event,
    HealthCheck,
    Sweep,
    Trial,
)

from .played_runner import samples_of
from .world import World

QUEUE_BOUND = 100
"""Doorbells that may wait for one device; more means that nobody bounds them."""


@dataclass
class Verdict:
    """``lost``: trials without a result that counts; ``doubled``: with more than one, or another's.
    ``wrong``: what is not as it must be, in words. ``checks``: of boards' health. ``ran_out``:
    attempts that a board had begun, a health check's too, and whose lease ran out."""

    trials: int
    lost: int = 0
    doubled: int = 0
    attempts: int = 0
    checks: int = 0
    ran_out: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.trials > 0 and not self.lost and not self.doubled and not self.wrong

    def line(self, faults: int, seed: int) -> str:
        return f"trials {self.trials} lost {self.lost} doubled {self.doubled} " + (
            f"faults {faults} seed {seed}"
        )


def judge(world: World) -> Verdict:
    """Once agents and controllers have ended."""
    with world.rows() as session:
        verdict = _trials(world, session)
        _checks(session, verdict)
        if world.postgres is not None:
            _locks(session, verdict)
    blobs = FolderBlobs(world.blobs)
    verdict.wrong += findings(world.database, blobs, deep=True, grace_s=0)
    _boards(world, verdict)
    log = world.postgres.log.read_text(errors="replace") if world.postgres is not None else ""
    deadlocks = log.count("deadlock detected")
    if deadlocks:  # the order of locks is kept everywhere, or the farm stumbles at times
        verdict.wrong.append(f"PostgreSQL broke up {deadlocks} deadlocks")
    for controller in world.controllers:
        traces = controller.log.read_text(errors="replace").count("Traceback (most recent")
        if traces:  # whatever fails, it is expected
            verdict.wrong.append(f"{controller.name} has {traces} tracebacks in its log")
    for board in world.boards:  # a full disk may leave a traceback there; a thread must not end
        if "Exception in thread" in board.process.log.read_text(errors="replace"):
            verdict.wrong.append(f"a thread of {board.name} has ended by itself; see its log")
    if world.deepest_queue > QUEUE_BOUND:
        verdict.wrong.append(f"a device's queue was {world.deepest_queue} deep")
    return verdict


def _trials(world: World, session: Session) -> Verdict:
    mine = select(Trial).join(Sweep, Trial.sweep_id == Sweep.id).where(Sweep.kind == SWEEP)
    trials = session.scalars(mine).all()
    of_trial: dict[int, list[Attempt]] = defaultdict(list)
    for attempt in session.scalars(select(Attempt)):
        of_trial[attempt.trial_id].append(attempt)
    verdict = Verdict(len(trials), attempts=sum(len(of_trial[t.id]) for t in trials))
    verdict.ran_out = _ran_out(session)
    for trial in trials:
        counted = [a for a in of_trial[trial.id] if a.accepted]
        state = TrialState(trial.state)
        if state not in FINAL:
            verdict.wrong.append(f"trial {trial.id} is {state}")
        # a real child that was frozen in its timed loop says so: that is a result
        if state not in (TrialState.DONE, TrialState.INVALID) or not counted:
            verdict.lost += 1
            verdict.wrong.append(f"trial {trial.id} ended {state}: {_last(of_trial[trial.id])}")
        if len(counted) > 1:
            verdict.doubled += 1
        for attempt in counted:
            own = state is TrialState.INVALID or _own_samples(world, attempt)
            if attempt.number != trial.attempt or not own:
                verdict.doubled += 1
                verdict.wrong.append(f"attempt {attempt.id} counts with another's samples")
    return verdict


def _ran_out(session: Session) -> int:
    """By the events: a late result replaces its attempt's note."""
    begun = select(Attempt.trial_id, Attempt.number).where(Attempt.started_at.is_not(None))
    known = {(str(trial), number) for trial, number in session.execute(begun)}
    lost = session.scalars(select(Event).where(Event.kind == "attempt_lost"))
    return sum((e.subject, e.data["attempt"]) in known for e in lost)


def _checks(session: Session, verdict: Verdict) -> None:
    """Health checks go on for as long as there is a farm: one of a board may be waiting, and none
    is with a board that has ended."""
    hidden = select(Trial).join(Sweep, Trial.sweep_id == Sweep.id).where(Sweep.kind == HEALTH)
    verdict.checks = session.scalar(select(func.count()).select_from(HealthCheck)) or 0
    for trial in session.scalars(hidden):
        counted = select(Attempt).where(Attempt.trial_id == trial.id, Attempt.accepted)
        if len(session.scalars(counted).all()) > 1:
            verdict.wrong.append(f"the health check of trial {trial.id} counts twice")
        if TrialState(trial.state) in OUTSTANDING:
            verdict.wrong.append(f"the health check of trial {trial.id} is {trial.state}")
    waiting = select(HealthCheck.device_id).where(HealthCheck.ended_at.is_(None))
    for device, count in Counter(session.scalars(waiting)).items():
        if count > 1:
            verdict.wrong.append(f"device {device} has {count} open health checks")
    for ill in session.scalars(select(Device).where(Device.health != Health.GOOD.value)):
        verdict.wrong.append(f"{ill.name} is {ill.health}: {ill.health_reasons}")


def _last(attempts: list[Attempt]) -> str:
    last = max(attempts, key=lambda a: a.number, default=None)
    if last is None:
        return "no attempt"
    return last.note or str((last.result or {}).get("failure"))


def _own_samples(world: World, attempt: Attempt) -> bool:
    """A played child's samples are made of its attempt's id; a real one's are only counted."""
    result = codec.from_plain(TrialResult, attempt.result)
    if result.samples is None:
        return False
    path = world.blobs / result.samples.sha256[:2] / result.samples.sha256
    if not path.is_file():
        return False
    values = np.frombuffer(zstandard.ZstdDecompressor().decompress(path.read_bytes()), "<i8")
    if result.runtime_version == "played":
        return bool(values.tolist() == samples_of(attempt.id))
    return values.size == result.samples.count * len(result.samples.series)


def _locks(session: Session, verdict: Verdict) -> None:
    """No controller runs any more: nobody else may hold a transaction or a lock."""
    query = "SELECT state, query FROM pg_stat_activity WHERE backend_type = 'client backend' "
    deadline = time.monotonic() + 10  # a server process sees within moments that its client ended
    while rows := session.execute(text(query + "AND pid <> pg_backend_pid()")).all():
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    verdict.wrong += [f"the database still serves somebody: {state} {q}" for state, q in rows]


def _boards(world: World, verdict: Verdict) -> None:
    verdict.wrong += world.left_by_hosts
    for board in world.boards:
        left = [*(board.state / "attempts").iterdir(), *(board.state / "samples").iterdir()]
        verdict.wrong += [f"{board.name} has left {path}" for path in left]
        verdict.wrong += [f"{board.name}: process {pid} is left" for pid in board.children()]
        outbox = sqlite3.connect(board.state / "outbox.sqlite")
        query = "SELECT attempt_id FROM results WHERE delivered_s IS NULL"
        waiting = outbox.execute(query).fetchall()
        outbox.close()
        verdict.wrong += [f"{board.name}: the result of {a} was not delivered" for (a,) in waiting]
