"""What must hold after a run, checked in the database, the folders, the logs and the processes."""

from __future__ import annotations

import functools
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from support.simulated_boards import measured

from .fake_runner import samples_of
from .processes import Process
from .servers import Servers
from .world import World

UPLOAD_LEFT = "is no blob"
"""How ``db check`` names an upload that the kill of a controller cut off; freed a day later."""
QUEUE_BOUND = 100
"""Doorbells that may wait for one device; more means that nothing bounds the queue."""
LISTED = 20
"""Findings of one kind that are listed at most."""


@dataclass
class Verdict:
    """``lost``: trials without an accepted result; ``doubled``: trials with more than one, or with
    the samples of another attempt. ``wrong``: every other violation, in words. ``checks``: health
    checks of boards. ``ran_out``: attempts, health checks included, that a board had begun and
    whose lease ran out. ``notes``: attempts by what became of them. ``strays``: uploads that were
    cut off."""

    trials: int
    lost: int = 0
    doubled: int = 0
    attempts: int = 0
    checks: int = 0
    ran_out: int = 0
    strays: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.trials > 0 and not self.lost and not self.doubled and not self.wrong

    def line(self, faults: int, seed: int) -> str:
        return result_line(self.trials, self.lost, self.doubled, faults, seed)


def result_line(trials: int, lost: int, doubled: int, faults: int, seed: int) -> str:
    """The last line of every run."""
    return f"trials {trials} lost {lost} doubled {doubled} faults {faults} seed {seed}"


def judge(world: World) -> Verdict:
    """The verdict over a farm whose agents and controllers have ended."""
    with world.rows() as session:
        accepted_states = {TrialState.DONE, TrialState.INVALID}
        verdict = judge_trials(session, functools.partial(_own_samples, world), accepted_states)
        verdict.ran_out = _ran_out(session)
        _health_checks(session, verdict)
        if world.postgres is not None:
            _locks(session, verdict)
    verdict.wrong += findings(world.database, FolderBlobs(world.blobs), deep=True, grace_s=0)
    _boards(world, verdict)
    judge_logs(world.controllers, world.postgres.log if world.postgres else None, verdict)
    for board in world.boards:  # a full disk may leave a traceback there; a thread must not end
        if "Exception in thread" in board.process.log.read_text(errors="replace"):
            verdict.wrong.append(f"a thread of {board.name} has ended by itself; see its log")
    if world.deepest_queue > QUEUE_BOUND:
        verdict.wrong.append(f"a device's queue held {world.deepest_queue} doorbells")
    return verdict


def judge_storm(
    storm: Servers, trials: int, answers: Mapping[str, tuple[int, bool]], blobs: Path
) -> Verdict:
    """The verdict over a farm of simulated boards that has ended. ``trials``: how many were
    submitted; ``answers``: the final answer to each attempt's result, as its board received it
    (HTTP status, and whether the result was a measurement)."""
    with storm.rows() as session:
        verdict = judge_trials(session, _own_simulated_samples, {TrialState.DONE})
        accepted = set(session.scalars(select(Attempt.id).where(Attempt.accepted)))
        open_sweeps = session.scalars(select(Sweep.name).where(Sweep.finished_at.is_(None))).all()
    if verdict.trials != trials:
        verdict.wrong.append(f"{trials} trials were submitted, {verdict.trials} are stored")
    verdict.wrong += [f"sweep {name} is not closed" for name in open_sweeps]
    acknowledged = {name for name, (status, ok) in answers.items() if ok and status == 200}
    for name in [*(acknowledged - accepted)][:LISTED]:
        verdict.wrong.append(f"the result of {name} was acknowledged, and does not count")
    for name in [*(accepted - acknowledged)][:LISTED]:
        verdict.wrong.append(f"the result of {name} counts, and its board was not told so")
    store = FolderBlobs(blobs)
    for line in findings(storm.database, store, deep=True, grace_s=0):
        if UPLOAD_LEFT not in line and not line.startswith("…"):
            verdict.wrong.append(line)
    verdict.strays = sum(1 for _ in store.strays())
    return verdict


def judge_trials(
    session: Session, is_own: Callable[[Session, Any], bool], accepted_states: Set[TrialState]
) -> Verdict:
    """Every trial of every sweep: in one of ``accepted_states``, with one accepted result, whose
    samples are its own. ``is_own``: whether those of an accepted attempt's row are."""
    of_sweeps = select(Trial.id).join(Sweep, Trial.sweep_id == Sweep.id).where(Sweep.kind == SWEEP)
    query = select(Trial.id, Trial.state, Trial.attempt).where(Trial.id.in_(of_sweeps))
    trials = session.execute(query).all()
    attempts = session.execute(
        select(
            Attempt.id, Attempt.trial_id, Attempt.number, Attempt.note, Attempt.accepted,
            Attempt.result["status"].as_string().label("status"),
            Attempt.result["failure"].label("failure"),
            Attempt.result[("samples", "sha256")].as_string().label("sha256"),
        ).where(Attempt.trial_id.in_(of_sweeps)).order_by(Attempt.number)
    ).all()  # fmt: skip
    verdict = Verdict(len(trials), attempts=len(attempts))
    accepted: dict[int, list[Any]] = defaultdict(list)
    last: dict[int, str] = {}
    for attempt in attempts:
        if attempt.accepted:
            accepted[attempt.trial_id].append(attempt)
        last[attempt.trial_id] = attempt.note or str(attempt.failure)
        verdict.notes[attempt.note or ("counts" if attempt.accepted else "failed, run again")] += 1
    for trial in trials:
        state, counted = TrialState(trial.state), accepted[trial.id]
        if state not in FINAL:
            with_device = " (with its device)" if state in OUTSTANDING else ""
            verdict.wrong.append(f"trial {trial.id} is {state}{with_device}")
        if state not in accepted_states or not counted:
            verdict.lost += 1
            verdict.wrong.append(
                f"trial {trial.id} ended {state}, {len(counted)} results count; its last attempt: "
                f"{last.get(trial.id, 'none')}"
            )
        verdict.doubled += len(counted) > 1
        for attempt in counted:
            # a real child that was frozen in its timed loop reports so: the result is invalid
            own = state is TrialState.INVALID or is_own(session, attempt)
            if attempt.number != trial.attempt or not own:
                verdict.doubled += 1
                verdict.wrong.append(f"attempt {attempt.id} counts with another's samples")
    return verdict


def open_trials(session: Session) -> int:
    """How many trials are in no final state, or cancelled until their sweep is resumed."""
    states = [state.value for state in FINAL - {TrialState.CANCELLED}]
    query = select(func.count()).select_from(Trial).where(Trial.state.not_in(states))
    return session.scalar(query) or 0


def judge_logs(
    controllers: Sequence[Process], postgres_log: Path | None, verdict: Verdict
) -> Counter[str]:
    """Tracebacks of controllers, and deadlocks; PostgreSQL's errors by message."""
    for controller in controllers:
        traces = controller.log.read_text(errors="replace").count("Traceback (most recent")
        if traces:
            verdict.wrong.append(f"{controller.name} has {traces} tracebacks in its log")
    if postgres_log is None:
        return Counter()
    lines = postgres_log.read_text(errors="replace").splitlines()
    errors = Counter(line.partition("ERROR:  ")[2] for line in lines if "ERROR:  " in line)
    if deadlocks := errors["deadlock detected"]:  # the order of locks was not kept somewhere
        verdict.wrong.append(f"PostgreSQL broke up {deadlocks} deadlocks")
    return errors


def _ran_out(session: Session) -> int:
    """From the events, because a late result replaces its attempt's note."""
    begun = select(Attempt.trial_id, Attempt.number).where(Attempt.started_at.is_not(None))
    known = {(str(trial), number) for trial, number in session.execute(begun)}
    lost = session.scalars(select(Event).where(Event.kind == "attempt_lost"))
    return sum((e.subject, e.data["attempt"]) in known for e in lost)


def _health_checks(session: Session, verdict: Verdict) -> None:
    """A board may have one waiting health check, because they never cease; none may be with a
    board, because all agents have ended."""
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


def _own_simulated_samples(_: Session, attempt: Any) -> bool:
    result, _blob = measured(attempt.id)
    assert result.samples is not None
    return bool(attempt.status == "ok" and attempt.sha256 == result.samples.sha256)


def _own_samples(world: World, session: Session, attempt: Any) -> bool:
    """A fake runner's samples are derived from its attempt's id; a real one's are counted."""
    stored = session.get_one(Attempt, attempt.id).result
    result = codec.from_plain(TrialResult, stored)
    if result.samples is None:
        return False
    path = world.blobs / result.samples.sha256[:2] / result.samples.sha256
    if not path.is_file():
        return False
    values = np.frombuffer(zstandard.ZstdDecompressor().decompress(path.read_bytes()), "<i8")
    if result.runtime_version == "fake":
        return bool(values.tolist() == samples_of(attempt.id))
    return values.size == result.samples.count * len(result.samples.series)


def _locks(session: Session, verdict: Verdict) -> None:
    """No controller runs any more: no other session may hold a transaction or a lock."""
    query = "SELECT state, query FROM pg_stat_activity WHERE backend_type = 'client backend' "
    deadline = time.monotonic() + 10  # a backend notices within moments that its client is gone
    while rows := session.execute(text(query + "AND pid <> pg_backend_pid()")).all():
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    verdict.wrong += [f"the database still has a session: {state} {q}" for state, q in rows]


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
