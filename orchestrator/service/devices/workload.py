"""The work of devices: the trial that runs on each, and the number of pending ones."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from orchestrator.domain.trial import OUTSTANDING, TrialState
from orchestrator.service.views import RunningView
from orchestrator.store.tables import HEALTH, Attempt, Cell, Sweep, Trial


@dataclass(frozen=True)
class DeviceWorkload:
    """``waiting``: pending trials of sweeps, including those that wait for a build."""

    running: RunningView | None = None
    waiting: int = 0


NO_WORKLOAD = DeviceWorkload()


def by_device(session: Session, device_id: int | None = None) -> dict[int, DeviceWorkload]:
    """Device id → work, of all devices or of one; two queries in either case."""
    of_device = () if device_id is None else (Trial.device_id == device_id,)
    waiting: dict[int, int] = dict(
        session.execute(
            select(Trial.device_id, func.count())
            .join(Sweep, Trial.sweep_id == Sweep.id)
            .where(Trial.state == TrialState.PENDING.value, Sweep.kind != HEALTH, *of_device)
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
        .where(Trial.state.in_([s.value for s in OUTSTANDING]), *of_device)
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
