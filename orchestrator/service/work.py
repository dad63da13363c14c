"""What devices have to do: the trial that is with each of them, and how many wait."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from orchestrator.domain.trial import OUTSTANDING, TrialState
from orchestrator.service.views import RunningView
from orchestrator.store.models import Attempt, Cell, Sweep, Trial


@dataclass(frozen=True)
class Work:
    """``waiting``: pending trials, those that wait for a build among them."""

    running: RunningView | None = None
    waiting: int = 0


NONE = Work()


def by_device(session: Session, device_id: int | None = None) -> dict[int, Work]:
    """The work of every device that has any, or of one; as many queries for a farm as for one."""
    mine = () if device_id is None else (Trial.device_id == device_id,)
    waiting: dict[int, int] = dict(
        session.execute(
            select(Trial.device_id, func.count())
            .where(Trial.state == TrialState.PENDING.value, *mine)
            .group_by(Trial.device_id)
        ).all()
    )
    rows = session.execute(
        select(Trial, Cell, Sweep.name, Attempt)
        .join(Cell, Trial.cell_id == Cell.id)
        .join(Sweep, Trial.sweep_id == Sweep.id)
        .join(Attempt, (Attempt.trial_id == Trial.id) & (Attempt.number == Trial.attempt))
        .where(Trial.state.in_([s.value for s in OUTSTANDING]), *mine)
    )
    running = {
        trial.device_id: RunningView(
            sweep=sweep,
            cell=str(cell.configuration["label"]),
            number=trial.number,
            build=bool(cell.build_key),
            since=attempt.started_at or attempt.dispatched_at,
        )
        for trial, cell, sweep, attempt in rows
    }
    return {
        key: Work(running.get(key), waiting.get(key, 0)) for key in running.keys() | waiting.keys()
    }
