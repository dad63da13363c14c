"""A trial's life on both databases: dispatched, started, ended, lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain import retry
from orchestrator.domain.errors import Superseded, UnknownAttempt, UserError
from orchestrator.service import events, rate_control
from orchestrator.service.devices import devices
from orchestrator.service.scheduling import dispatch, ingest, scheduler
from orchestrator.service.sweeps import progress, sweeps
from orchestrator.store.blob_references import BlobGone
from support.farms import FarmKit, failed, unsupported


@pytest.fixture
def board(farm: FarmKit) -> int:
    """An online device, and a model."""
    farm.add_model()
    return farm.device()


def test_from_submitting_to_done(farm: FarmKit, board: int) -> None:
    view = farm.submit(trials=2)
    assert (view.state, view.cells, view.trials, view.counts) == ("running", 1, 2, {"pending": 2})
    assert farm.doorbells.published == [], "submitting rings nobody: the scheduler does"
    assert scheduler.tick(farm.farm) == 1
    first = farm.last_rung()
    assert farm.doorbells.published == [("board", first)]
    started = ingest.start_attempt(farm.farm, board, first)
    assert started.lease_s == farm.farm.settings.lease_s
    request = started.request
    assert (request.attempt_id, request.trial_id) == (first, str(farm.trials()[0].id))
    assert (request.model.name, request.runtime.backend) == ("dense", "onnxruntime")
    assert farm.states() == ["running", "pending"]
    farm.give(board, farm.ok(first))
    second = farm.last_rung()
    assert second != first, "a result rings for the next trial at once"
    assert farm.states() == ["done", "dispatched"]
    ingest.start_attempt(farm.farm, board, second)
    farm.give(board, farm.ok(second))
    done = progress.sweep(farm.farm, "first")
    assert (done.state, done.counts, done.finished_at) == ("done", {"done": 2}, farm.clock.at)
    assert [e.kind for e in events.after(farm.farm, 0, 99)][-1] == "sweep_finished"
    assert len(farm.doorbells.published) == 2


@pytest.mark.parametrize("why", ["offline", "drained", "never beaten"])
def test_a_device_that_should_not_work_is_not_rung(farm: FarmKit, board: int, why: str) -> None:
    farm.submit()
    match why:
        case "offline":
            farm.clock.advance(rate_control.current_pace(farm.farm).offline_after_s)
        case "drained":
            devices.set_enabled(farm.farm, "board", False)
        case _:
            farm.enrol("new")
            farm.submit("second", devices="{names: [new]}")
            board = farm.device_id("new")
    assert not dispatch.dispatch(farm.farm, board)
    assert farm.doorbells.published == []
    assert set(farm.states()) == {"pending"}


def test_a_heartbeat_of_an_idle_device_fetches_work(farm: FarmKit, board: int) -> None:
    farm.submit()
    farm.beat(board)
    assert farm.states() == ["dispatched"]
    farm.beat(board, farm.last_rung())
    assert len(farm.doorbells.published) == 1


def test_starting_twice_gives_the_same_answer(farm: FarmKit, board: int) -> None:
    farm.submit(attempts=1)
    scheduler.tick(farm.farm)
    attempt = farm.last_rung()
    first = ingest.start_attempt(farm.farm, board, attempt)
    farm.clock.advance(5)
    assert ingest.start_attempt(farm.farm, board, attempt) == first
    assert [(t.state, t.attempt, t.spent) for t in farm.trials()] == [("running", 1, 1)]
    assert (farm.clock.at - farm.attempts()[0].lease_until).total_seconds() == -30


def test_a_result_given_twice_changes_nothing(farm: FarmKit, board: int) -> None:
    farm.submit(trials=2)
    scheduler.tick(farm.farm)
    attempt = farm.last_rung()
    result = farm.ok(attempt)
    farm.give(board, result)
    before, told = farm.attempt(attempt), farm.rows()
    farm.clock.advance(1)
    farm.give(board, result)
    after = farm.attempt(attempt)
    assert (after.accepted, after.note, after.ended_at) == (True, "", before.ended_at)
    assert farm.rows() == told
    assert farm.states() == ["done", "dispatched"]


def test_a_measurement_is_accepted_once_and_claims_one_trial(farm: FarmKit, board: int) -> None:
    farm.submit(trials=3)
    scheduler.tick(farm.farm)
    result = farm.ok(farm.last_rung())
    accepted = ingest.accept_measurement(farm.farm, board, result.attempt_id, result)
    assert accepted is not None
    assert accepted.next is not None
    before = farm.rows()
    assert ingest.accept_measurement(farm.farm, board, result.attempt_id, result) is None
    ingest.accept_under_sweep_lock(farm.farm, board, result.attempt_id, result)
    assert farm.rows() == before
    assert farm.states() == ["done", "dispatched", "pending"]


def test_a_result_under_the_sweeps_lock_claims_nothing_and_closes_the_sweep(
    farm: FarmKit, board: int
) -> None:
    farm.submit(trials=2)
    scheduler.tick(farm.farm)
    first = failed(farm.last_rung())
    ingest.accept_under_sweep_lock(farm.farm, board, first.attempt_id, first)
    assert farm.states() == ["failed", "pending"]
    assert progress.sweep(farm.farm, "first").finished_at is None
    scheduler.tick(farm.farm)
    last = failed(farm.last_rung())
    ingest.accept_under_sweep_lock(farm.farm, board, last.attempt_id, last)
    assert progress.sweep(farm.farm, "first").state == "failed"


def test_a_transient_failure_given_twice_is_acknowledged_twice(farm: FarmKit, board: int) -> None:
    """The acknowledgement may be lost; the outbox then sends the failure again."""
    farm.submit()
    scheduler.tick(farm.farm)
    attempt = farm.last_rung()
    farm.give(board, failed(attempt, transient=True))
    farm.give(board, failed(attempt, transient=True))
    kept = farm.attempt(attempt)
    assert (kept.note, kept.accepted, farm.states()) == ("", False, ["pending"])


def test_a_result_counts_even_if_the_starts_answer_was_lost(farm: FarmKit, board: int) -> None:
    farm.submit()
    scheduler.tick(farm.farm)
    farm.give(board, farm.ok(farm.last_rung()))
    assert farm.states() == ["done"]


def test_another_devices_attempt_is_unknown(farm: FarmKit, board: int) -> None:
    other = farm.device("other")
    farm.submit(devices="{names: [board]}")
    scheduler.tick(farm.farm)
    attempt = farm.last_rung()
    with pytest.raises(UnknownAttempt):
        ingest.start_attempt(farm.farm, other, attempt)
    with pytest.raises(UnknownAttempt):
        farm.give(other, farm.ok(attempt))
    assert farm.beat(other, attempt).cancel
    with pytest.raises(UnknownAttempt):
        ingest.start_attempt(farm.farm, board, "0" * 32)
    assert farm.attempt(attempt).result is None
    assert farm.states() == ["dispatched"]


def test_a_lost_attempt_is_tried_again_until_the_budget_is_spent(farm: FarmKit, board: int) -> None:
    farm.submit(attempts=2)
    seen: list[str] = []
    for number in (1, 2):
        farm.beat(board)
        seen.append(farm.last_rung())
        ingest.start_attempt(farm.farm, board, seen[-1])
        assert farm.trials()[0].attempt == number
        farm.clock.advance(farm.farm.settings.lease_s)
        assert scheduler.reclaim(farm.farm) == 0, "a lease holds to its last moment"
        farm.clock.advance(0.001)
        assert scheduler.reclaim(farm.farm) == 1
        assert scheduler.reclaim(farm.farm) == 0
        farm.beat(board)
        assert farm.last_rung() == seen[-1], "not at once"
        farm.clock.advance(retry.pause(number, seen[-1]).total_seconds())
    assert len(set(seen)) == 2
    assert (farm.states(), progress.sweep(farm.farm, "first").state) == (["failed"], "failed")
    assert [a.note for a in farm.attempts()] == ["lease ran out while running"] * 2
    assert not any(a.accepted for a in farm.attempts())
    farm.beat(board)
    assert len(farm.doorbells.published) == 2


def test_heartbeats_keep_a_lease(farm: FarmKit, board: int) -> None:
    farm.submit()
    scheduler.tick(farm.farm)
    attempt = farm.last_rung()
    ingest.start_attempt(farm.farm, board, attempt)
    for _ in range(5):
        farm.clock.advance(20)
        answer = farm.beat(board, attempt)
        assert (answer.renewed, answer.cancel) == (True, False)
        assert scheduler.reclaim(farm.farm) == 0
    assert farm.states() == ["running"]


@pytest.mark.parametrize("late", ["after the next dispatch", "before the next dispatch"])
def test_a_late_result_is_kept_and_counts_nowhere(farm: FarmKit, board: int, late: str) -> None:
    farm.submit()
    farm.beat(board)
    first = farm.last_rung()
    ingest.start_attempt(farm.farm, board, first)
    farm.clock.advance(31)
    scheduler.reclaim(farm.farm)
    farm.clock.advance(retry.FIRST_S)
    if late == "after the next dispatch":
        farm.beat(board)
        assert farm.trials()[0].attempt == 2
    state = farm.states()
    for _ in range(2):
        with pytest.raises(Superseded):
            farm.give(board, farm.ok(first))
    kept = farm.attempt(first)
    assert kept.result is not None
    assert (kept.accepted, kept.note, farm.states()) == (False, "superseded", state)
    assert farm.beat(board, first).cancel
    with pytest.raises(Superseded):
        ingest.start_attempt(farm.farm, board, first)
    farm.beat(board)
    farm.give(board, farm.ok(farm.last_rung()))
    assert [(a.number, a.accepted) for a in farm.attempts()] == [(1, False), (2, True)]


def test_a_bell_that_cannot_be_rung_loses_no_trial(farm: FarmKit, board: int) -> None:
    """However long the broker is down: only attempts that a device started count."""
    farm.submit(attempts=1)
    farm.doorbells.error = OSError("connection refused")
    for _ in range(5):
        farm.beat(board)
        assert farm.states() == ["dispatched"]
        farm.clock.advance(farm.farm.settings.dispatch_s + 1)
        assert scheduler.reclaim(farm.farm) == 1
        assert farm.states() == ["pending"]
    farm.doorbells.error = None
    farm.beat(board)
    farm.give(board, farm.ok(farm.last_rung()))
    assert [(t.state, t.attempt, t.spent) for t in farm.trials()] == [("done", 6, 1)]


def test_a_transient_failure_is_tried_again_after_a_pause(farm: FarmKit, board: int) -> None:
    farm.submit(attempts=2)
    farm.beat(board)
    first = farm.last_rung()
    farm.give(board, failed(first, transient=True))
    assert farm.states() == ["pending"]
    assert not dispatch.dispatch(farm.farm, board), "not at once"
    farm.clock.advance(retry.pause(1, first).total_seconds() - 0.001)
    assert not dispatch.dispatch(farm.farm, board)
    farm.clock.advance(0.001)
    assert dispatch.dispatch(farm.farm, board)
    farm.give(board, failed(farm.last_rung(), transient=True))
    assert farm.states() == ["failed"]
    assert [(a.number, a.accepted) for a in farm.attempts()] == [(1, False), (2, True)]
    assert farm.attempt(first).result is not None


def test_what_is_resumed_waits_for_nothing(farm: FarmKit, board: int) -> None:
    farm.submit()
    farm.beat(board)
    farm.give(board, failed(farm.last_rung(), transient=True))
    sweeps.cancel(farm.farm, "first")
    sweeps.resume(farm.farm, "first")
    assert dispatch.dispatch(farm.farm, board)


def test_while_a_trial_waits_another_runs(farm: FarmKit, board: int) -> None:
    farm.submit(trials=2)
    farm.beat(board)
    farm.give(board, failed(farm.last_rung(), transient=True))
    assert farm.states() == ["pending", "dispatched"]


def test_an_agent_that_stopped_by_itself_is_asked_again(farm: FarmKit, board: int) -> None:
    farm.submit()
    farm.beat(board)
    farm.give(board, failed(farm.last_rung(), status="cancelled"))
    assert farm.states() == ["pending"]


def test_a_failure_that_will_not_pass_is_final(farm: FarmKit, board: int) -> None:
    farm.submit()
    farm.beat(board)
    farm.give(board, failed(farm.last_rung()))
    view = progress.sweep(farm.farm, "first")
    assert (view.state, farm.states()) == ("failed", ["failed"])
    assert [p.message for p in view.problems] == ["measure: crash: SIGSEGV in the vendor's library"]


def test_unsupported_closes_its_cell_and_no_other(farm: FarmKit, board: int) -> None:
    farm.submit(trials=3, runtimes="[{backend: onnxruntime, precision: fp32, threads: [1, 2]}]")
    farm.beat(board)
    attempt = farm.last_rung()
    cell = farm.trials()[0].cell_id
    farm.give(board, unsupported(attempt))
    states = {(t.cell_id == cell, t.state) for t in farm.trials()}
    assert states == {(True, "unsupported"), (False, "dispatched"), (False, "pending")}
    for _ in range(3):
        farm.give(board, farm.ok(farm.last_rung()))
    view = progress.sweep(farm.farm, "first")
    assert (view.state, view.counts) == ("done", {"unsupported": 3, "done": 3})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ({"attempt_id": "0" * 32}, "names attempt"),
        ({"schema": 2}, "schema 2"),
        ({"status": "great"}, "unknown status 'great'; accepted: ok, unsupported"),
        ({"samples": None}, "has samples"),
        ({"status": "failed"}, "says why in its failure"),
    ],
)
def test_a_result_that_contradicts_itself_changes_nothing(
    farm: FarmKit, board: int, spoil: dict[str, object], says: str
) -> None:
    farm.submit()
    farm.beat(board)
    attempt = farm.last_rung()
    wrong = replace(farm.ok(attempt), **spoil)  # type: ignore[arg-type]
    before = farm.rows()
    with pytest.raises(UserError, match=says):
        ingest.accept_result(farm.farm, board, attempt, wrong)
    assert (farm.rows(), farm.states()) == (before, ["dispatched"])
    assert farm.attempt(attempt).result is None


def test_a_result_whose_samples_were_not_uploaded_is_refused(farm: FarmKit, board: int) -> None:
    farm.submit()
    farm.beat(board)
    result = farm.ok(farm.last_rung())
    assert result.samples is not None
    farm.farm.blobs.delete([result.samples.sha256])
    with pytest.raises(BlobGone, match="upload the blob first"):
        farm.give(board, result)
    assert farm.states() == ["dispatched"]


def test_sweeps_run_in_the_order_they_came_in(farm: FarmKit, board: int) -> None:
    farm.submit("first", trials=2)
    farm.submit("second", trials=2)
    farm.beat(board)
    for _ in range(4):
        farm.give(board, farm.ok(farm.last_rung()))
    order = [
        a.trial_id
        for a in sorted(
            farm.attempts(), key=lambda a: farm.doorbells.published.index(("board", a.id))
        )
    ]
    assert order == [t.id for t in farm.trials()]


def test_what_counted_before_a_resume_counts_no_more(farm: FarmKit, board: int) -> None:
    farm.submit()
    farm.beat(board)
    before = farm.last_rung()
    farm.give(board, failed(before))
    assert farm.attempt(before).accepted
    sweeps.resume(farm.farm, "first")
    farm.beat(board)
    farm.give(board, farm.ok(farm.last_rung()))
    assert [(a.number, a.accepted) for a in farm.attempts()] == [(1, False), (2, True)]
    assert farm.attempt(before).result is not None, "it stays for inspection"
