"""Cells that are given up: what has only ever failed is not run to its last trial."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, aliased

from agent.contract import codec
from agent.contract.trial import SCHEMA, Failure, TrialResult
from orchestrator.domain.trial import TrialState, hopeless
from orchestrator.service.context import FarmContext
from orchestrator.service.trials.transitions import apply, lifecycle_of
from orchestrator.store.tables import Attempt, Cell, Sweep, Trial

NOT_RUN = "not run: every trial of its cell before it failed"


def give_up(farm: FarmContext, session: Session, sweep: str, cell_id: int) -> None:
    """A trial of the cell has just failed: where all did before it, close the cell. Its pending
    trials fail without a run, until a resume. The caller has ``lock``ed the sweep of that name."""
    limit = farm.settings.cell_failures
    if not limit:
        return
    session.flush()
    mine = select(Trial).where(Trial.cell_id == cell_id).with_for_update()
    trials = session.scalars(mine, execution_options={"populate_existing": True}).all()
    pending = [t for t in trials if t.state == TrialState.PENDING.value]
    states = [TrialState(t.state) for t in trials]
    if not pending or not hopeless(states, _failed_for_good(session, cell_id), limit):
        return
    for row in pending:
        apply(row, lifecycle_of(row).to(TrialState.FAILED))
    cell = session.get_one(Cell, cell_id)
    farm.note(
        session,
        "cell_given_up",
        sweep,
        cell=cell.configuration["label"],
        device=cell.device.name,
        not_run=len(pending),
    )


def _failed_for_good(session: Session, cell_id: int) -> int:
    """Failed trials of a cell whose last attempt would not have gone better another time, or was
    lost as those before it were."""
    last = select(Attempt).join(Trial, Attempt.trial_id == Trial.id)
    last = last.where(Attempt.number == Trial.attempt, Trial.cell_id == cell_id)
    last = last.where(Trial.state == TrialState.FAILED.value)
    attempts = session.scalars(last, execution_options={"populate_existing": True})
    return sum(_for_good(attempt) for attempt in attempts)


def _for_good(attempt: Attempt) -> bool:
    if not attempt.accepted or attempt.result is None:  # lost; what came late counts for nothing
        return True
    result = codec.from_plain(TrialResult, attempt.result)
    passing = result.failure is not None and result.failure.transient
    return result.status == "failed" and not passing


def not_run() -> tuple[ColumnElement[bool], ...]:
    """Of trials, joined with their sweep: failed without a run, for their cell was given up. What
    ran and was lost has spent its budget; what failed has a result that was accepted."""
    last = aliased(Attempt)
    counted = select(last.id).where(
        last.trial_id == Trial.id, last.number == Trial.attempt, last.accepted
    )
    return (
        Trial.state == TrialState.FAILED.value,
        Trial.waits_for.is_(None),
        Trial.spent < Sweep.attempts,
        ~counted.exists(),
    )


def lost(trial: Trial, attempt: Attempt | None) -> bool:
    """Whether a trial failed because its device fell silent in ``attempt``, its last one."""
    over = trial.state == TrialState.FAILED.value and trial.waits_for is None
    return over and attempt is not None and not attempt.accepted


def silence(trial: Trial) -> TrialResult:
    """What stands for the result of a trial that was ``lost``."""
    message = f"the device fell silent in each of {trial.spent} attempts: their leases ran out"
    if trial.spent == 1:
        message = "the device fell silent while it ran: its lease ran out"
    return TrialResult(SCHEMA, "", "failed", "", failure=Failure("measure", "lease_lost", message))
