"""The trial's state machine: legal moves only, whatever happens in whatever order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.contract.trial import STATUSES, Failure
from orchestrator.domain.errors import IllegalMove
from orchestrator.domain.trial import (
    FINAL,
    MOVES,
    OUTSTANDING,
    RESUMABLE,
    TrialLifecycle,
    TrialState,
    after_loss,
    after_result,
    hopeless,
)

LEGAL = {
    "pending": {"dispatched", "cancelled", "unsupported", "failed"},
    "dispatched": {"running", "pending", "cancelled"},
    "running": {"done", "unsupported", "invalid", "failed", "cancelled", "pending"},
    "failed": {"pending"},
    "cancelled": {"pending"},
    "done": set(),
    "unsupported": set(),
    "invalid": set(),
}
"""Written out once more, by hand: a change of the moves must be meant."""


@pytest.mark.parametrize(
    ("state", "to"), list(itertools.product(TrialState, TrialState)), ids=lambda s: str(s)
)
def test_only_the_listed_moves_are_legal(state: TrialState, to: TrialState) -> None:
    trial = TrialLifecycle("7", state, attempt=2, spent=1)
    if to.value in LEGAL[state.value]:
        moved = trial.to(to)
        assert moved.state is to
        assert moved.attempt == (3 if to is TrialState.DISPATCHED else 2)
        assert trial.state is state, "a move makes a copy"
    else:
        with pytest.raises(IllegalMove, match=f"trial 7: {state} cannot become {to}"):
            trial.to(to)


def test_the_kinds_of_states_divide_them_all() -> None:
    assert set(MOVES) == set(TrialState)
    assert FINAL | OUTSTANDING | {TrialState.PENDING} == set(TrialState)
    assert not FINAL & OUTSTANDING
    assert {s for s in FINAL if MOVES[s]} == RESUMABLE


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("state", sorted(OUTSTANDING))
@pytest.mark.parametrize("transient", [False, True])
@pytest.mark.parametrize("spent", [1, 2, 3])
def test_every_result_of_an_outstanding_attempt_has_a_legal_place_to_go(
    status: str, state: TrialState, transient: bool, spent: int
) -> None:
    failure = None if status == "ok" else Failure("measure", "crash", "m", transient)
    trial = TrialLifecycle("7", TrialState.RUNNING, attempt=spent, spent=spent)
    after = trial.to(after_result(trial, status, failure, 3)).state
    again = transient or status == "cancelled"
    expected = {"ok": "done", "unsupported": "unsupported", "invalid": "invalid"}.get(
        status, "pending" if again and spent < 3 else "failed"
    )
    assert after.value == expected


def test_a_doorbell_that_nobody_answered_costs_no_try() -> None:
    """A broker that is down for an hour may delay trials, and must not use up their budget."""
    trial = TrialLifecycle("7")
    for _ in range(50):
        trial = trial.to(TrialState.DISPATCHED)
        trial = trial.to(after_loss(trial, budget=1))
    assert (trial.state, trial.attempt, trial.spent) == (TrialState.PENDING, 50, 0)


class Life(RuleBasedStateMachine):
    """Everything that the services do to a trial, in any order."""

    @initialize(budget=st.integers(1, 4))
    def begin(self, budget: int) -> None:
        self.trial = TrialLifecycle("7")
        self.budget = budget
        self.started = 0

    def _move(self, state: TrialState) -> None:
        before, self.trial = self.trial, self.trial.to(state)
        assert self.trial.attempt >= before.attempt, "the fencing token never turns back"
        if before.state in FINAL:
            assert before.state in RESUMABLE, "a result stays a result"

    @precondition(lambda self: self.trial.state is TrialState.PENDING)
    @rule()
    def dispatch(self) -> None:
        self._move(TrialState.DISPATCHED)

    @precondition(lambda self: self.trial.state is TrialState.DISPATCHED)
    @rule()
    def start(self) -> None:
        self._move(TrialState.RUNNING)
        self.started += 1

    @precondition(lambda self: self.trial.state in OUTSTANDING)
    @rule()
    def lose(self) -> None:
        self._move(after_loss(self.trial, self.budget))

    @precondition(lambda self: self.trial.state is TrialState.RUNNING)
    @rule(status=st.sampled_from(STATUSES), transient=st.booleans())
    def finish(self, status: str, transient: bool) -> None:
        failure = None if status == "ok" else Failure("measure", "crash", "m", transient)
        self._move(after_result(self.trial, status, failure, self.budget))

    @precondition(lambda self: self.trial.state not in FINAL)
    @rule()
    def cancel(self) -> None:
        self._move(TrialState.CANCELLED)

    @precondition(lambda self: self.trial.state is TrialState.PENDING)
    @rule(state=st.sampled_from([TrialState.FAILED, TrialState.UNSUPPORTED]))
    def cannot_be_built(self, state: TrialState) -> None:
        self._move(state)

    @precondition(lambda self: self.trial.state in RESUMABLE)
    @rule()
    def resume(self) -> None:
        self._move(TrialState.PENDING)
        self.started = 0

    @rule(state=st.sampled_from(TrialState))
    def try_anything(self, state: TrialState) -> None:
        if state.value not in LEGAL[self.trial.state.value]:
            with pytest.raises(IllegalMove):
                self.trial.to(state)

    @invariant()
    def within_budget(self) -> None:
        if hasattr(self, "budget"):
            assert self.trial.spent == self.started <= self.budget


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase


@pytest.mark.parametrize(
    ("states", "failed", "given_up"),
    [
        (["failed", "failed", "failed", "pending"], 3, True),
        (["failed", "failed", "pending", "pending"], 2, False),
        (["failed", "failed", "failed", "cancelled", "pending"], 3, True),
        (["failed", "failed", "failed", "done", "pending"], 3, False),
        (["failed", "failed", "failed", "invalid", "pending"], 3, False),
        (["failed", "failed", "failed", "pending"], 2, False),
    ],
)
def test_a_cell_is_given_up_once_enough_failed_for_good_and_nothing_else_came_of_it(
    states: list[str], failed: int, given_up: bool
) -> None:
    assert hopeless([TrialState(s) for s in states], failed, 3) == given_up
