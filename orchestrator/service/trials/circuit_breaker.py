"""Circuit breaker: a cell whose trials have only failed is not run to its last trial."""

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


def give_up_cell_if_hopeless(farm: FarmContext, session: Session, sweep: str, cell_id: int) -> None:
    """Close a cell, one of whose trials has just failed, if all of them did.

    Its pending trials fail without a run, until the sweep is resumed. ``sweep``: its name. The
    caller has called ``transitions.lock_sweep``; locks the cell's trials.
    """
    limit = farm.settings.cell_failures
    if not limit:
        return
    session.flush()
    of_cell = select(Trial).where(Trial.cell_id == cell_id).with_for_update()
    trials = session.scalars(of_cell, execution_options={"populate_existing": True}).all()
    pending = [t for t in trials if t.state == TrialState.PENDING.value]
    states = [TrialState(t.state) for t in trials]
    if not pending or not hopeless(states, _count_permanent_failures(session, cell_id), limit):
        return
    for row in pending:
        apply(row, lifecycle_of(row).to(TrialState.FAILED))
    cell = session.get_one(Cell, cell_id)
    farm.record_event(
        session,
        "cell_given_up",
        sweep,
        cell=cell.configuration["label"],
        device=cell.device.name,
        not_run=len(pending),
    )


def _count_permanent_failures(session: Session, cell_id: int) -> int:
    """Number of a cell's failed trials whose last attempt was lost or failed in a way that a retry
    does not cure."""
    last = select(Attempt).join(Trial, Attempt.trial_id == Trial.id)
    last = last.where(Attempt.number == Trial.attempt, Trial.cell_id == cell_id)
    last = last.where(Trial.state == TrialState.FAILED.value)
    attempts = session.scalars(last, execution_options={"populate_existing": True})
    return sum(_is_permanent_failure(attempt) for attempt in attempts)


def _is_permanent_failure(attempt: Attempt) -> bool:
    if not attempt.accepted or attempt.result is None:  # lost; a late result does not count
        return True
    result = codec.from_plain(TrialResult, attempt.result)
    transient = result.failure is not None and result.failure.transient
    return result.status == "failed" and not transient


def not_run_conditions() -> tuple[ColumnElement[bool], ...]:
    """Conditions on trials joined with their sweep: failed without a run, in a cell that was given
    up.

    A trial that was lost has spent all its attempts, and one that ran and failed has an accepted
    result.
    """
    last = aliased(Attempt)
    accepted = select(last.id).where(
        last.trial_id == Trial.id, last.number == Trial.attempt, last.accepted
    )
    return (
        Trial.state == TrialState.FAILED.value,
        Trial.waits_for.is_(None),
        Trial.spent < Sweep.attempts,
        ~accepted.exists(),
    )


def was_lost(trial: Trial, attempt: Attempt | None) -> bool:
    """Whether a trial failed because the lease of ``attempt``, its last one, ran out."""
    failed = trial.state == TrialState.FAILED.value and trial.waits_for is None
    return failed and attempt is not None and not attempt.accepted


def result_of_lost_trial(trial: Trial) -> TrialResult:
    """The result to show for a trial that was lost (``was_lost``)."""
    message = f"the device fell silent in each of {trial.spent} attempts: their leases ran out"
    if trial.spent == 1:
        message = "the device fell silent while it ran: its lease ran out"
    return TrialResult(SCHEMA, "", "failed", "", failure=Failure("measure", "lease_lost", message))
