"""Steps: what is right is left alone, what is done is checked, and a dry run does nothing."""

from __future__ import annotations

from typing import cast

import pytest

from playbooks.errors import StepFailed
from playbooks.step_runner import RunOutcome, Step, StepEvent, run_steps
from playbooks.target import BoardTarget

NOWHERE = cast(BoardTarget, None)
"""These steps look at no board."""


class Switch:
    """Something that a step turns on; ``works`` says whether turning helps."""

    def __init__(self, *, on: bool = False, works: bool = True) -> None:
        self.on, self.works, self.turned = on, works, 0

    def step(self, name: str, *, ahead: bool = False) -> Step:
        return Step(name, lambda _: "" if self.on else "it is off", self._turn, ahead)

    def _turn(self, _: BoardTarget) -> None:
        self.turned += 1
        self.on = self.works


def test_only_what_is_not_right_is_done_and_a_second_run_does_nothing() -> None:
    left, right = Switch(on=True), Switch()
    told: list[StepEvent] = []
    steps = [left.step("left"), right.step("right")]
    assert run_steps(steps, NOWHERE, told.append) == RunOutcome(2, 1)
    assert [(e.step, e.status) for e in told] == [
        *(("left", "ok"), ("right", ""), ("right", "changed")),
    ]
    assert run_steps(steps, NOWHERE, told.append) == RunOutcome(2, 0)
    assert (left.turned, right.turned) == (0, 1)


def test_what_was_done_and_did_not_help_is_a_failure_that_ends_the_run() -> None:
    broken, after = Switch(works=False), Switch()
    with pytest.raises(StepFailed, match="broken: done, and still it is off"):
        run_steps([broken.step("broken"), after.step("after")], NOWHERE, lambda _: None)
    assert after.turned == 0


def test_a_dry_run_does_nothing_and_ends_where_it_cannot_look_further() -> None:
    first, second, third = Switch(), Switch(), Switch()
    told: list[StepEvent] = []
    steps = [first.step("first"), second.step("second", ahead=True), third.step("third")]
    assert run_steps(steps, NOWHERE, told.append, dry_run=True) == RunOutcome(2, 2)
    assert {e.status for e in told} == {"would change"}
    assert first.turned == second.turned == third.turned == 0
