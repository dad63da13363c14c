"""What must be true when the storm is over: looked up in the database and the logs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from benchmarks.scale_boards import measured
from orchestrator.domain.trial import FINAL, OUTSTANDING, TrialState
from orchestrator.service.context import FarmContext
from orchestrator.store.backup.integrity_check import findings
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.tables import Attempt, Sweep, Trial

BROKEN_OFF = "is no blob"
"""How ``db check`` names what a killed controller's uploads left; it frees them a day later."""
LISTED = 20


@dataclass
class Verdict:
    """``lost``: trials that did not end ``done`` with a result that counts; ``doubled``: with more
    than one, or with another attempt's samples. ``wrong``: what is not as it must be, in words."""

    trials: int
    lost: int = 0
    doubled: int = 0
    attempts: int = 0
    strays: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.trials > 0 and not self.lost and not self.doubled and not self.wrong

    def line(self, faults: int, seed: int) -> str:
        return (
            f"trials {self.trials} lost {self.lost} doubled {self.doubled} "
            f"faults {faults} seed {seed}"
        )


def judge(farm: FarmContext, trials: int, answers: Path, blobs: Path) -> Verdict:
    """Once the boards have ended. ``trials``: as many were submitted; ``answers``: what the boards
    were told."""
    verdict = Verdict(trials)
    told: dict[str, tuple[int, bool]] = json.loads(answers.read_text())
    with farm.database.repeatable_read() as session:
        rows = session.execute(select(Trial.id, Trial.state, Trial.attempt)).all()
        attempts = session.execute(
            select(
                Attempt.id, Attempt.trial_id, Attempt.number, Attempt.note, Attempt.accepted,
                Attempt.result["status"].as_string().label("status"),
                Attempt.result[("samples", "sha256")].as_string().label("sha256"),
            )
        ).all()  # fmt: skip
        open_sweeps = session.scalars(select(Sweep.name).where(Sweep.finished_at.is_(None))).all()
    verdict.attempts = len(attempts)
    if len(rows) != trials:
        verdict.wrong.append(f"{trials} trials were submitted, {len(rows)} are there")
    verdict.wrong += [f"sweep {name} is not closed" for name in open_sweeps]
    _trials(verdict, rows, attempts)
    _answers(verdict, attempts, told)
    for line in findings(farm.database, FolderBlobs(blobs), deep=True, grace_s=0):
        if BROKEN_OFF not in line and not line.startswith("…"):
            verdict.wrong.append(line)
    verdict.strays = sum(1 for _ in FolderBlobs(blobs).strays())
    return verdict


def _trials(verdict: Verdict, rows: Any, attempts: Any) -> None:
    counted: dict[int, list[Any]] = {}
    for attempt in attempts:
        if attempt.accepted:
            counted.setdefault(attempt.trial_id, []).append(attempt)
        verdict.notes[attempt.note or ("counts" if attempt.accepted else "failed, run again")] += 1
    for trial in rows:
        mine, state = counted.get(trial.id, []), TrialState(trial.state)
        if state not in FINAL:
            with_device = " (with its device)" if state in OUTSTANDING else ""
            verdict.wrong.append(f"trial {trial.id} is {state}{with_device}")
        if state is not TrialState.DONE or not mine:
            verdict.lost += 1
            verdict.wrong.append(f"trial {trial.id} ended {state}, {len(mine)} results count")
        verdict.doubled += len(mine) > 1
        for attempt in mine:
            result, _ = measured(attempt.id)
            assert result.samples is not None
            own = attempt.status == "ok" and attempt.sha256 == result.samples.sha256
            if attempt.number != trial.attempt or not own:
                verdict.doubled += 1
                verdict.wrong.append(f"attempt {attempt.id} counts with another's samples")


def _answers(verdict: Verdict, attempts: Any, told: dict[str, tuple[int, bool]]) -> None:
    """What a board was told is what is kept: a result was acknowledged exactly if it counts."""
    accepted = {attempt.id for attempt in attempts if attempt.accepted}
    acknowledged = {name for name, (status, ok) in told.items() if ok and status == 200}
    for name in [*(acknowledged - accepted)][:LISTED]:
        verdict.wrong.append(f"the result of {name} was acknowledged, and does not count")
    for name in [*(accepted - acknowledged)][:LISTED]:
        verdict.wrong.append(f"the result of {name} counts, and its board was not told so")


def logged(log: Path, postgres: Path, verdict: Verdict) -> Counter[str]:
    """What the controller and PostgreSQL say of themselves; by kind, what the latter complained
    of."""
    text = log.read_text(errors="replace")
    if traces := text.count("Traceback (most recent"):
        verdict.wrong.append(f"the controller has {traces} tracebacks in its log")
    said = postgres.read_text(errors="replace").splitlines()
    errors = Counter(line.partition("ERROR:  ")[2] for line in said if "ERROR:  " in line)
    if deadlocks := errors["deadlock detected"]:
        verdict.wrong.append(f"PostgreSQL broke up {deadlocks} deadlocks")
    return errors


def still_open(farm: FarmContext) -> int:
    """Trials that are in no final state, or wait for their sweep's resume."""
    states = [state.value for state in FINAL - {TrialState.CANCELLED}]
    with farm.database.read_session() as session:
        query = select(func.count()).select_from(Trial).where(Trial.state.not_in(states))
        return session.scalar(query) or 0
