"""A plan's estimate: what it learns from, failures, time limits and conversions included."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.contract.trial import Failure, Phases, TrialResult
from orchestrator.service.scheduling import scheduler
from orchestrator.service.sweeps import sweeps
from orchestrator.service.sweeps.duration_estimate import START_UP_S
from orchestrator.service.views import PlannedCell, PlanView
from support.farms import FarmKit, failed, spec_text

FOUR_S = "scenario: {max_duration_s: 4, warm_up_s: 1}\n"


@pytest.fixture
def board(farm: FarmKit) -> int:
    farm.add_model()
    return farm.device()


def plan(farm: FarmKit, **changes: Any) -> PlanView:
    return sweeps.plan(farm.farm, spec_text("next", **changes), "f")


def cell(farm: FarmKit, **changes: Any) -> PlannedCell:
    return plan(farm, **changes).cells[0]


def ran(farm: FarmKit, board: int, *results: TrialResult, **changes: Any) -> None:
    """A sweep of as many trials as there are results, which its device gives."""
    name = f"history-{farm.rows()['sweeps']}"
    farm.submit(name, trials=len(results), attempts=1, **changes)
    farm.beat(board)
    for result in results:
        farm.give(board, replace(result, attempt_id=farm.last_rung()))
        scheduler.tick(farm.farm)


def ok(farm: FarmKit, measure_s: float, rest_s: float, **changes: Any) -> TrialResult:
    phases = {"warm_up_s": 1.0, "measure_s": measure_s, "total_s": measure_s + 1.0 + rest_s}
    return replace(farm.ok("a"), phases=Phases(**{**phases, **changes}))


def test_without_history_it_is_a_guess_and_says_so(farm: FarmKit, board: int) -> None:
    found = cell(farm, more=FOUR_S)
    assert found.estimate_s == START_UP_S + 5.0
    assert found.estimate_from.startswith("a guess: nothing like it has run here yet")


def test_trials_of_the_same_configuration_and_rule_count_as_they_were(
    farm: FarmKit, board: int
) -> None:
    ran(farm, board, ok(farm, 2.0, 3.0), ok(farm, 3.0, 5.0), more=FOUR_S)
    found = cell(farm, more=FOUR_S)
    assert found.estimate_s == pytest.approx(2.5 + 1.0 + 4.0)
    assert found.estimate_from == "2 earlier trials of this configuration"
    assert found.convert_s == 0.0
    longer = cell(farm, more="scenario: {max_duration_s: 60, warm_up_s: 2, min_samples: 500}\n")
    assert longer.estimate_s == pytest.approx(60.0 + 2.0 + 4.0)


def test_a_trial_that_its_duration_ended_will_take_the_whole_of_it(
    farm: FarmKit, board: int
) -> None:
    made = ok(farm, 4.0, 1.0)
    assert made.samples is not None
    capped = replace(made, samples=replace(made.samples, stopped_by="max_duration"))
    ran(farm, board, capped, more=FOUR_S)
    found = cell(farm, more="scenario: {max_duration_s: 9, warm_up_s: 1}\n")
    assert found.estimate_s == pytest.approx(9.0 + 1.0 + 1.0)


def test_a_failure_takes_its_time_too(farm: FarmKit, board: int) -> None:
    crash = replace(failed("a"), phases=Phases(total_s=50.0))
    ran(farm, board, ok(farm, 2.0, 3.0), crash, more=FOUR_S)
    found = cell(farm, more=FOUR_S)
    assert found.estimate_s == pytest.approx((6.0 + 50.0) / 2)
    assert found.estimate_from == (
        "2 earlier trials of this configuration (1 of the attempts failed)"
    )


def test_a_time_limit_that_ran_out_teaches_the_new_limit(farm: FarmKit, board: int) -> None:
    late = Failure("verify", "timeout", "limits.trial_s ran out")
    timeout = replace(failed("a"), failure=late, phases=Phases(total_s=21.0))
    ran(farm, board, timeout, more="limits: {trial_s: 20}\n")
    assert cell(farm, more="limits: {trial_s: 20}\n").estimate_s == pytest.approx(21.0)
    assert cell(farm, more="limits: {trial_s: 80}\n").estimate_s == pytest.approx(81.0)


def test_a_conversion_counts_once_a_cell_and_only_where_it_is_new(
    farm: FarmKit, board: int
) -> None:
    ran(farm, board, ok(farm, 2.0, 33.0, convert_s=30.0), more=FOUR_S)
    known = plan(farm, trials=5, more=FOUR_S)
    assert known.cells[0].convert_s == 0.0, "it is in the board's cache"
    assert known.estimate_s == pytest.approx(5 * 6.0)
    other = plan(farm, trials=5, more=FOUR_S, runtimes="[{backend: onnxruntime, threads: 2}]")
    assert other.cells[0].convert_s == 30.0
    assert other.cells[0].estimate_from == "1 earlier trial of its model, runtime and precision"
    assert other.estimate_s == pytest.approx(30.0 + 5 * 6.0)


def test_another_runtimes_history_is_none(farm: FarmKit, board: int) -> None:
    ran(farm, board, ok(farm, 2.0, 3.0))
    assert "a guess" in cell(farm, runtimes="[{backend: openvino}]").estimate_from


def test_a_plan_whose_measuring_does_not_fit_its_limit_says_so(farm: FarmKit, board: int) -> None:
    found = plan(farm, more="limits: {trial_s: 4}\n" + FOUR_S)
    assert found.notes == [
        "scenario.warm_up_s and max_duration_s take up to 5 s, and limits.trial_s stops a trial "
        "after 4 s: raise limits.trial_s above that sum"
    ]
    assert plan(farm, more=FOUR_S).notes == []
