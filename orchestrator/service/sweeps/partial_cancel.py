"""Cancelling a part of a sweep: one cell, one trial of it, or what is left on one device."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from orchestrator.domain.errors import Conflict, NotFound
from orchestrator.domain.trial import OUTSTANDING, TrialState, before
from orchestrator.service.context import FarmContext
from orchestrator.service.sweeps.progress import find, sweep_view
from orchestrator.service.sweeps.sweeps import publish_doorbells
from orchestrator.service.trials.transitions import (
    IS_OPEN,
    apply,
    finish_sweep_if_done,
    lifecycle_of,
    lock_sweep,
)
from orchestrator.service.views import SweepView
from orchestrator.store.tables import Attempt, Cell, Device, Sweep, Trial

MAY_BE_CANCELLED = [state.value for state in before(TrialState.CANCELLED)]


def cancel_part(
    farm: FarmContext, name: str, cell: str = "", device: str = "", trial: int = 0
) -> SweepView:
    """Cancel the open trials of the cells that match, and builds that only they wait for.

    ``cell``: a cell's number or label; ``device``: its device; ``trial``: one trial of the cell,
    counted from 1, 0: all. An empty argument matches all. Locks the sweep, then the trials' rows.

    Raises:
        NotFound: no such sweep, or no such cell or trial in it.
        Conflict: every trial that matches has ended.
    """
    with farm.database.transaction() as session:
        sweep = lock_sweep(session, find(session, name).id)
        cells = _cells(session, sweep, cell, device)
        trials = _trials(session, sweep, cells, trial)
        rung = _cancel(session, trials)
        orphans = _builds_without_waiting_trials(session, sweep)
        rung += _cancel(session, orphans)
        labels = sorted({str(c.configuration["label"]) for c in cells})
        farm.record_event(
            session,
            "trials_cancelled",
            name,
            cells=labels[:20],
            device=device,
            trials=len(trials),
        )
        finish_sweep_if_done(farm, session, sweep.id)
        view = sweep_view(farm, session, sweep)
    publish_doorbells(farm, rung)
    return view


def _cells(session: Session, sweep: Sweep, cell: str, device: str) -> Sequence[Cell]:
    """The cells that match. Raises ``NotFound``."""
    query = select(Cell).where(Cell.sweep_id == sweep.id, Cell.build_key == "")
    found = session.scalars(query.order_by(Cell.id)).all()
    if device:
        known = {c.device.name for c in found}
        if device not in known:
            raise NotFound("device", device, list(known), f"sweep {sweep.name}: ")
        found = [c for c in found if c.device.name == device]
    if cell:
        labels = list({str(c.configuration["label"]) for c in found})
        found = [c for c in found if cell in (str(c.id), c.configuration["label"])]
        if not found:
            raise NotFound("cell", cell, labels, f"sweep {sweep.name}: ")
    return found


def _trials(session: Session, sweep: Sweep, cells: Sequence[Cell], number: int) -> Sequence[Trial]:
    """The open trials of ``cells``, locked. Raises ``NotFound``, ``Conflict``."""
    ids = [cell.id for cell in cells]
    of_cells = [Trial.sweep_id == sweep.id, Trial.cell_id.in_(ids)]
    if number:
        of_cells.append(Trial.number == number - 1)
    all_of_them = session.scalars(select(Trial.state).where(*of_cells)).all()
    if number and not all_of_them:
        known = session.scalars(select(Trial.number).where(Trial.cell_id.in_(ids)).distinct())
        raise NotFound("trial", str(number), [str(n + 1) for n in known], f"{sweep.name}: ")
    query = select(Trial).where(*of_cells, Trial.state.in_(MAY_BE_CANCELLED))
    found = session.scalars(query.order_by(Trial.id).with_for_update()).all()
    if not found:
        ended = ", ".join(sorted(set(all_of_them))) or "skipped, and have no trials"
        raise Conflict(f"sweep {sweep.name}: nothing to cancel, what you name is {ended}")
    return found


def _builds_without_waiting_trials(session: Session, sweep: Sweep) -> Sequence[Trial]:
    session.flush()
    waiting = select(Trial.waits_for).where(
        Trial.sweep_id == sweep.id, Trial.waits_for.is_not(None), IS_OPEN
    )
    query = (
        select(Trial)
        .join(Cell, Trial.cell_id == Cell.id)
        .where(Trial.sweep_id == sweep.id, Cell.build_key != "", Trial.id.not_in(waiting))
        .where(Trial.state.in_(MAY_BE_CANCELLED))
    )
    return session.scalars(query.order_by(Trial.id).with_for_update(of=Trial)).all()


def _cancel(session: Session, trials: Sequence[Trial]) -> list[tuple[str, str]]:
    """Cancel them; returns device name and id of each attempt that is with its device."""
    with_device = [t.id for t in trials if TrialState(t.state) in OUTSTANDING]
    rung = session.execute(
        select(Device.name, Attempt.id)
        .join(Trial, Trial.device_id == Device.id)
        .join(Attempt, (Attempt.trial_id == Trial.id) & (Attempt.number == Trial.attempt))
        .where(Trial.id.in_(with_device))
    ).all()
    for row in trials:
        apply(row, lifecycle_of(row).to(TrialState.CANCELLED))
    return [(device, attempt_id) for device, attempt_id in rung]
