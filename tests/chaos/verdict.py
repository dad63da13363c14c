"""What must be true when it is over: looked up in the database, the folders and the processes."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import zstandard
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from agent import codec
from agent.contract import TrialResult
from orchestrator.domain.trial import FINAL, TrialState
from orchestrator.store.models import Artifact, Attempt, Model, Sweep, Trial

from .played_runner import samples_of
from .world import World

QUEUE_BOUND = 100
"""Doorbells that may wait for one device; more means that nobody bounds them."""


@dataclass
class Verdict:
    """``lost``: trials without a result that counts; ``doubled``: with more than one, or another's.
    ``wrong``: what is not as it must be, in words."""

    trials: int
    lost: int = 0
    doubled: int = 0
    attempts: int = 0
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
        _blobs(world, session, verdict)
        _locks(session, verdict)
    _boards(world, verdict)
    if world.deepest_queue > QUEUE_BOUND:
        verdict.wrong.append(f"a device's queue was {world.deepest_queue} deep")
    return verdict


def _trials(world: World, session: Session) -> Verdict:
    trials = session.scalars(select(Trial)).all()
    of_trial: dict[int, list[Attempt]] = defaultdict(list)
    for attempt in session.scalars(select(Attempt)):
        of_trial[attempt.trial_id].append(attempt)
    verdict = Verdict(len(trials), attempts=sum(map(len, of_trial.values())))
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
    for sweep in session.scalars(select(Sweep).where(Sweep.finished_at.is_(None))):
        verdict.wrong.append(f"sweep {sweep.name} is not closed")
    return verdict


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


def _blobs(world: World, session: Session, verdict: Verdict) -> None:
    """Every file is one that a model or a kept result names."""
    named = set(session.scalars(select(Artifact.sha256)))
    named |= {str(m.reference["sha256"]) for m in session.scalars(select(Model))}
    for result in session.scalars(select(Attempt.result).where(Attempt.result.is_not(None))):
        given = codec.from_plain(TrialResult, result)
        if given.samples is not None:
            named.add(given.samples.sha256)
    there = {path.name for path in world.blobs.rglob("*") if path.is_file()}
    verdict.wrong += [f"nothing refers to blob {name}" for name in sorted(there - named)]


def _locks(session: Session, verdict: Verdict) -> None:
    """No controller runs any more: nobody else may hold a transaction or a lock."""
    query = "SELECT state, query FROM pg_stat_activity WHERE backend_type = 'client backend' "
    rows = session.execute(text(query + "AND pid <> pg_backend_pid()")).all()
    verdict.wrong += [f"the database still serves somebody: {state} {q}" for state, q in rows]


def _boards(world: World, verdict: Verdict) -> None:
    for board in world.boards:
        left = [*(board.state / "attempts").iterdir(), *(board.state / "samples").iterdir()]
        verdict.wrong += [f"{board.name} has left {path}" for path in left]
        verdict.wrong += [f"{board.name}: process {pid} is left" for pid in board.children()]
        outbox = sqlite3.connect(board.state / "outbox.sqlite")
        query = "SELECT attempt_id FROM results WHERE delivered_s IS NULL"
        waiting = outbox.execute(query).fetchall()
        outbox.close()
        verdict.wrong += [f"{board.name}: the result of {a} was not delivered" for (a,) in waiting]
