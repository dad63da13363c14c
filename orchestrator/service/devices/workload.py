"""What devices have to do: the trial that is with each of them, and how many wait."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from orchestrator.domain.trial import OUTSTANDING, TrialState
from orchestrator.service.views import RunningView
from orchestrator.store.tables import HEALTH, Attempt, Cell, Sweep, Trial


@dataclass(frozen=True)
class DeviceWorkload:
    """``waiting``: pending trials of sweeps, those that wait for a build among them."""

    running: RunningView | None = None
    waiting: int = 0


NONE = DeviceWorkload()


def by_device(session: Session, device_id: int | None = None) -> dict[int, DeviceWorkload]:
    """The work of every device that has any, or of one; as many queries for a farm as for one."""
    mine = () if device_id is None else (Trial.device_id == device_id,)
    waiting: dict[int, int] = dict(
        session.execute(
            select(Trial.device_id, func.count())
            .join(Sweep, Trial.sweep_id == Sweep.id)
            .where(Trial.state == TrialState.PENDING.value, Sweep.kind != HEALTH, *mine)
            .group_by(Trial.device_id)
        ).all()
    )
    rows = session.execute(
        select(
            Trial.device_id,
            Trial.number,
            Sweep.name,
            Sweep.kind,
            Cell.configuration,
            Cell.build_key,
            Attempt.started_at,
            Attempt.dispatched_at,
        )
        .select_from(Trial)
        .join(Cell, Trial.cell_id == Cell.id)
        .join(Sweep, Trial.sweep_id == Sweep.id)
        .join(Attempt, (Attempt.trial_id == Trial.id) & (Attempt.number == Trial.attempt))
        .where(Trial.state.in_([s.value for s in OUTSTANDING]), *mine)
    )
    running = {
        device: RunningView(
            sweep="" if kind == HEALTH else sweep,
            cell=str(configuration["label"]),
            number=number,
            build=bool(build_key),
            since=started_at or dispatched_at,
        )
        for (
            device,
            number,
            sweep,
            kind,
            configuration,
            build_key,
            started_at,
            dispatched_at,
        ) in rows
    }
    return {
        key: DeviceWorkload(running.get(key), waiting.get(key, 0))
        for key in running.keys() | waiting.keys()
    }
