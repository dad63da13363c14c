"""Estimates a trial's duration from this farm's history, or else from the spec's bounds."""

from __future__ import annotations

from statistics import median

from sqlalchemy import select
from sqlalchemy.orm import Session

from orchestrator.domain.placement import Placement
from orchestrator.domain.spec import SweepSpec
from orchestrator.store.tables import SWEEP, Attempt, Cell, Device, Sweep, Trial

HISTORY = 400
"""Number of latest accepted attempts that are read."""

START_UP_S = 5.0
"""Assumed time for spawn, import, load and verification where there is no history."""


class Estimator:
    """Reads the history once; ``trial_s`` then estimates cell by cell."""

    def __init__(self, session: Session) -> None:
        rows = session.execute(
            select(Device.name, Cell.model, Cell.configuration, Attempt.result)
            .join(Trial, Attempt.trial_id == Trial.id)
            .join(Cell, Trial.cell_id == Cell.id)
            .join(Device, Trial.device_id == Device.id)
            .join(Sweep, Trial.sweep_id == Sweep.id)
            .where(Attempt.accepted, Sweep.kind == SWEEP)
            .order_by(Attempt.ended_at.desc())
            .limit(HISTORY)
        )
        self._seen: dict[tuple[str, ...], list[float]] = {}
        for device, model, configuration, result in rows:
            total = (result or {}).get("phases", {}).get("total_s")
            measured = (result or {}).get("phases", {}).get("measure_s")
            if total is not None and measured is not None:
                key = (device, model, configuration["backend"], configuration["precision"])
                self._seen.setdefault(key, []).append(total - measured)

    def trial_s(self, placement: Placement, spec: SweepSpec) -> tuple[float, str]:
        """An upper estimate of one trial in seconds, and what it is based on.

        Measuring may stop early; it counts with its bound ``max_duration_s``.
        """
        c = placement.configuration
        overheads = self._seen.get((placement.device, c.model, c.backend, c.precision))
        longest = spec.scenario.max_duration_s + spec.scenario.warm_up_s
        if overheads:
            return median(overheads) + longest, f"at most; {len(overheads)} earlier trials"
        return START_UP_S + longest, "at most; nothing like it has run here yet"
