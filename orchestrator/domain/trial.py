"""The state machine of trials. Pure: the services store what is decided here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from agent.contract.trial import Failure
from orchestrator.domain.errors import IllegalMove


class TrialState(StrEnum):
    """``pending`` waits for its device; ``dispatched``: the doorbell was rung; ``running`` holds a
    lease."""

    PENDING = "pending"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    DONE = "done"
    UNSUPPORTED = "unsupported"
    INVALID = "invalid"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset(
    {
        TrialState.DONE,
        TrialState.UNSUPPORTED,
        TrialState.INVALID,
        TrialState.FAILED,
        TrialState.CANCELLED,
    }
)
OUTSTANDING = frozenset({TrialState.DISPATCHED, TrialState.RUNNING})
"""States in which a device has the attempt."""

RESUMABLE = frozenset({TrialState.FAILED, TrialState.CANCELLED})
"""Final states that ``sweep resume`` turns back into pending; the others are results."""

RESULTS = FINAL - RESUMABLE

MOVES: dict[TrialState, frozenset[TrialState]] = {
    # without a run: a pending trial of a cell that proved unsupported, one whose model could not be
    # built, and one whose cell has only failed so far
    TrialState.PENDING: frozenset(
        {
            TrialState.DISPATCHED,
            TrialState.CANCELLED,
            TrialState.UNSUPPORTED,
            TrialState.FAILED,
        }
    ),
    TrialState.DISPATCHED: frozenset(
        {TrialState.RUNNING, TrialState.PENDING, TrialState.CANCELLED}
    ),
    TrialState.RUNNING: FINAL | {TrialState.PENDING},
    TrialState.FAILED: frozenset({TrialState.PENDING}),
    TrialState.CANCELLED: frozenset({TrialState.PENDING}),
    TrialState.DONE: frozenset(),
    TrialState.UNSUPPORTED: frozenset(),
    TrialState.INVALID: frozenset(),
}


def before(state: TrialState) -> frozenset[TrialState]:
    """The states from which a trial may move to ``state``."""
    return frozenset(each for each, following in MOVES.items() if state in following)


@dataclass(frozen=True)
class TrialLifecycle:
    """``attempt`` is the number of the last attempt and serves as fencing token; 0 before the
    first.

    ``spent`` counts attempts of the current budget that a device started; an unanswered doorbell
    does not count. A resume starts a new budget and never decreases the fencing token.
    """

    id: str
    state: TrialState = TrialState.PENDING
    attempt: int = 0
    spent: int = 0

    def to(self, state: TrialState) -> TrialLifecycle:
        """A copy in ``state``. Dispatching creates the next attempt, running spends one.

        Raises:
            IllegalMove: ``state`` does not follow this one.
        """
        if state not in MOVES[self.state]:
            raise IllegalMove(self.id, self.state, state)
        if state is TrialState.DISPATCHED:
            return replace(self, state=state, attempt=self.attempt + 1)
        if state is TrialState.RUNNING:
            return replace(self, state=state, spent=self.spent + 1)
        if self.state in RESUMABLE:
            return replace(self, state=state, spent=0)
        return replace(self, state=state)


def after_result(
    trial: TrialLifecycle, status: str, failure: Failure | None, budget: int
) -> TrialState:
    """The state after the result of the current attempt.

    A transient failure goes back to pending until ``budget`` attempts are spent. A result may
    arrive while the trial still reads dispatched (the start call's answer was lost).
    """
    match status:
        case "ok":
            return TrialState.DONE
        case "unsupported":
            return TrialState.UNSUPPORTED
        case "invalid":
            return TrialState.INVALID
        case _:
            transient = status == "cancelled" or (failure is not None and failure.transient)
            return after_loss(trial, budget) if transient else TrialState.FAILED


def after_loss(trial: TrialLifecycle, budget: int) -> TrialState:
    """The state after a lost attempt. One that never started (the message or the broker was lost)
    is dispatched again without limit; one whose lease ran out, until ``budget`` is spent."""
    if trial.state is TrialState.DISPATCHED:
        return TrialState.PENDING
    return TrialState.PENDING if trial.spent < budget else TrialState.FAILED


def hopeless(states: Collection[TrialState], failed: int, limit: int) -> bool:
    """Whether the other trials of a cell are not worth running: at least ``limit`` have ``failed``
    for good, and none gave a result. ``states``: those of its trials."""
    return failed >= limit and not RESULTS & set(states)
