"""A cell whose trials always crash is given up; the device's other cells go on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.contract.trial import Failure, TrialResult
from orchestrator.report.build import build_report
from orchestrator.service import events
from orchestrator.service.scheduling import ingest, scheduler
from orchestrator.service.sweeps import progress, report_data, sweeps
from orchestrator.service.trials.circuit_breaker import NOT_RUN
from support.farms import FarmKit, failed

TWO_CELLS = "[{backend: onnxruntime, threads: [1, 2]}]"


@pytest.fixture
def board(farm: FarmKit) -> int:
    """An online device, and a model."""
    farm.add_model()
    return farm.device()


def crash(farm: FarmKit, board: int, times: int = 1) -> None:
    for _ in range(times):
        farm.beat(board)
        farm.give(board, failed(farm.last_rung()))


def test_a_cell_that_only_ever_failed_is_not_run_to_its_end(farm: FarmKit, board: int) -> None:
    farm.submit(trials=30)
    crash(farm, board, 3)
    view = progress.sweep(farm.farm, "first")
    assert (view.state, view.counts) == ("failed", {"failed": 30})
    assert len(farm.attempts()) == 3, "those that were given up had no run"
    assert [p.message for p in view.problems] == [
        NOT_RUN,
        *["measure: crash: SIGSEGV in the vendor's library"] * 3,
    ]
    [said] = [e for e in events.after(farm.farm, 0, 99) if e.kind == "cell_given_up"]
    assert (said.subject, said.data["device"], said.data["not_run"]) == ("first", "board", 27)
    [row] = build_report(report_data.collect_sweep(farm.farm, "first")).rows
    assert row.status == "failed"
    assert row.status_note == "trials: 30 failed, 27 of them not run after the others"
    assert row.failure is not None
    assert row.failure.kind == "crash"


def test_the_boards_other_cells_go_on(farm: FarmKit, board: int) -> None:
    farm.submit(trials=4, runtimes=TWO_CELLS)
    bad = farm.trials()[0].cell_id
    for _ in range(30):
        farm.beat(board)
        outstanding = [t for t in farm.trials() if t.state == "dispatched"]
        if not outstanding:
            break
        attempt = farm.last_rung()
        good = outstanding[0].cell_id != bad
        farm.give(board, farm.ok(attempt) if good else failed(attempt))
    assert progress.sweep(farm.farm, "first").counts == {"failed": 4, "done": 4}
    assert len(farm.attempts()) == 3 + 4


def test_one_good_trial_and_the_rest_is_run(farm: FarmKit, board: int) -> None:
    farm.submit(trials=6)
    crash(farm, board, 2)
    farm.give(board, farm.ok(farm.last_rung()))
    crash(farm, board, 3)
    assert progress.sweep(farm.farm, "first").counts == {"failed": 5, "done": 1}
    assert len(farm.attempts()) == 6


@pytest.mark.parametrize("what", ["transient", "cancelled"])
def test_what_could_have_gone_better_closes_nothing(farm: FarmKit, board: int, what: str) -> None:
    farm.submit(trials=5, attempts=1)
    for _ in range(3):
        farm.beat(board)
        attempt = farm.last_rung()
        bad = failed(attempt, transient=True)
        farm.give(board, bad if what == "transient" else failed(attempt, status="cancelled"))
    assert progress.sweep(farm.farm, "first").counts == {"failed": 3, "dispatched": 1, "pending": 1}


def test_a_board_that_falls_silent_in_one_cell_every_time_loses_that_cell(
    farm: FarmKit, board: int
) -> None:
    farm.submit(trials=5, attempts=1)
    for _ in range(3):
        farm.beat(board)
        ingest.start_attempt(farm.farm, board, farm.last_rung())
        farm.clock.advance(farm.farm.settings.lease_s + 1)
        scheduler.reclaim(farm.farm)
    view = progress.sweep(farm.farm, "first")
    assert (view.state, view.counts) == ("failed", {"failed": 5})
    assert len(farm.attempts()) == 3
    silent = "measure: lease_lost: the device fell silent while it ran: its lease ran out"
    assert [(p.message, p.fault) for p in view.problems] == [
        (NOT_RUN, ""),
        *[(silent, "device")] * 3,
    ]
    [row] = build_report(report_data.collect_sweep(farm.farm, "first")).rows
    assert row.failure is not None
    assert (row.failure.kind, row.failure.fault) == ("lease_lost", "device")
    assert [t.status for t in row.trials] == ["failed"] * 3


def test_a_trial_that_waits_for_its_second_try_is_given_up_too(farm: FarmKit, board: int) -> None:
    farm.submit(trials=4)
    farm.beat(board)
    farm.give(board, failed(farm.last_rung(), transient=True))
    crash(farm, board, 3)
    assert progress.sweep(farm.farm, "first").counts == {"failed": 4}
    assert progress.sweep(farm.farm, "first").problems[0].message == NOT_RUN


def test_a_resume_opens_the_cell_again(farm: FarmKit, board: int) -> None:
    farm.submit(trials=5)
    crash(farm, board, 3)
    assert sweeps.resume(farm.farm, "first").counts == {"pending": 5}
    farm.beat(board)
    for _ in range(5):
        farm.give(board, farm.ok(farm.last_rung()))
    assert progress.sweep(farm.farm, "first").counts == {"done": 5}


def test_and_closes_once_more_where_nothing_has_changed(farm: FarmKit, board: int) -> None:
    farm.submit(trials=5)
    crash(farm, board, 3)
    sweeps.resume(farm.farm, "first")
    crash(farm, board, 3)
    assert progress.sweep(farm.farm, "first").counts == {"failed": 5}
    assert len(farm.attempts()) == 6


def test_how_many_is_a_setting_and_none_means_all(farm: FarmKit, board: int) -> None:
    farm.farm.settings.cell_failures = 0
    farm.submit(trials=5)
    crash(farm, board, 5)
    assert len(farm.attempts()) == 5
    farm.farm.settings.cell_failures = 1
    farm.submit("second", trials=5)
    crash(farm, board)
    assert len(farm.attempts()) == 6
    assert progress.sweep(farm.farm, "second").state == "failed"


def test_an_invalid_trial_has_run_and_closes_nothing(farm: FarmKit, board: int) -> None:
    farm.submit(trials=5)
    farm.beat(board)
    farm.give(board, _invalid(farm.last_rung()))
    crash(farm, board, 3)
    assert len(farm.attempts()) == 5


def _invalid(attempt: str) -> TrialResult:
    why = Failure("measure", "clock", "its clock jumped")
    return replace(failed(attempt), status="invalid", failure=why)
