"""Several controllers, schedulers and devices at the same moment, on both databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from agent.contract.trial import Built
from orchestrator.domain.errors import Conflict, Superseded
from orchestrator.service.models.registration import NewModel, add
from orchestrator.service.scheduling import dispatch, ingest, scheduler
from orchestrator.service.sweeps import progress, sweeps
from orchestrator.service.trials import attempt_queries
from orchestrator.service.trials.transitions import lock_sweep
from support import onnx_files
from support.at_once import at_once
from support.farms import TOOLS, FarmKit, device_facts, spec_text

THREADS = 8


def test_a_device_gets_one_attempt_however_many_dispatch(farm: FarmKit) -> None:
    farm.add_model()
    board, other = farm.device("board"), farm.device("other")
    farm.submit(trials=20)
    for turn in range(1, 4):
        outcomes = at_once(
            [lambda d=d: dispatch.dispatch(farm.farm, d) for d in (board, other)] * 4
        )
        assert Counter(outcomes) == {True: 2, False: 6}
        assert Counter(device for device, _ in farm.doorbells.published) == {
            "board": turn,
            "other": turn,
        }
        assert Counter(farm.states())["dispatched"] == 2
        for attempt in farm.attempts():
            if attempt.result is None:
                # the result is written without its dispatch: the next turn's race is for that
                _take(farm, attempt.device_id, attempt.id)


def _take(farm: FarmKit, device_id: int, attempt_id: str) -> None:
    with farm.farm.database.transaction() as session:
        sweep = attempt_queries.read_sweep_of_attempt(session, device_id, attempt_id)
        lock_sweep(session, sweep.id)
        ingest._write_result(farm.farm, session, sweep, device_id, attempt_id, farm.ok(attempt_id))


def test_schedulers_side_by_side_ring_each_device_once(farm: FarmKit) -> None:
    farm.add_model()
    for i in range(5):
        farm.device(f"board{i}")
    farm.submit(trials=3)
    outcomes = at_once([lambda: scheduler.tick(farm.farm)] * 4)
    assert sum(int(str(n)) for n in outcomes) == 5
    assert sorted(device for device, _ in farm.doorbells.published) == [
        f"board{i}" for i in range(5)
    ]


def test_one_result_sent_many_times_at_once_is_acknowledged_each_time(farm: FarmKit) -> None:
    farm.add_model()
    board = farm.device()
    farm.submit(trials=2)
    farm.beat(board)
    attempt = farm.last_rung()
    result = farm.ok(attempt)
    outcomes = at_once([lambda: farm.give(board, result)] * THREADS)
    assert outcomes == [None] * THREADS
    kept = farm.attempt(attempt)
    assert (kept.accepted, kept.note) == (True, "")
    assert farm.states() == ["done", "dispatched"]


def test_the_last_results_of_several_devices_at_once_close_the_sweep(farm: FarmKit) -> None:
    """Each transaction alone sees the others' trials still running."""
    farm.add_model()
    boards = [farm.device(f"board{i}") for i in range(THREADS)]
    for turn in range(3):
        farm.submit(f"sweep{turn}")
        for board in boards:
            farm.beat(board)
        given = [(a.device_id, farm.ok(a.id)) for a in farm.attempts() if a.result is None]
        assert len(given) == THREADS
        outcomes = at_once([partial(farm.give, device, result) for device, result in given])
        assert outcomes == [None] * THREADS
        view = progress.sweep(farm.farm, f"sweep{turn}")
        assert (view.state, view.counts) == ("done", {"done": THREADS})


def test_results_cancels_and_resumes_at_once_do_not_block_each_other(farm: FarmKit) -> None:
    farm.add_model()
    boards = [farm.device(f"board{i}") for i in range(4)]
    farm.submit(trials=30)
    for _ in range(6):
        for board in boards:
            farm.beat(board)
        open_ones = [a for a in farm.attempts() if a.result is None and not a.note]
        calls: list[Callable[[], object]] = [
            partial(farm.give, a.device_id, farm.ok(a.id)) for a in open_ones
        ]
        calls += [lambda: sweeps.cancel(farm.farm, "first")] * 2
        calls += [lambda: sweeps.resume(farm.farm, "first")] * 2
        calls += [lambda: scheduler.tick(farm.farm)] * 2
        odd = [o for o in at_once(calls) if isinstance(o, Exception)]
        assert [o for o in odd if not isinstance(o, Superseded)] == []
        view = sweeps.resume(farm.farm, "first")
        assert view.state == ("running" if view.counts != {"done": 120} else "done")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_result_waits_for_no_other_of_its_sweep(farm: FarmKit) -> None:
    farm.add_model()
    board, other = farm.device(), farm.device("other")
    farm.submit(trials=2)
    farm.beat(other)
    others = farm.last_rung()
    farm.beat(board)
    attempt = farm.last_rung()
    with farm.farm.database.transaction() as session:
        attempt_queries.lock_device_and_share_sweep(session, other, others)
        farm.give(board, farm.ok(attempt))
        assert Counter(farm.states()) == {"done": 1, "dispatched": 2, "pending": 1}


def test_a_result_and_the_next_claim_are_one_transaction(farm: FarmKit) -> None:
    """A controller that dies after it leaves nothing half-done, and no device without its trial."""
    farm.add_model()
    board = farm.device()
    farm.submit(trials=2)
    farm.beat(board)
    result = farm.ok(farm.last_rung())
    measured = ingest.accept_measurement(farm.farm, board, result.attempt_id, result)
    assert measured is not None
    assert measured.next is not None
    assert [a.id for a in farm.attempts() if a.result is None] == [measured.next.attempt_id]
    assert farm.states() == ["done", "dispatched"]
    assert len(farm.doorbells.published) == 1, "rung for only once that is committed"


def test_results_submits_and_freeing_at_once_do_not_block_each_other(farm: FarmKit) -> None:
    farm.add_model()
    boards = [farm.device(f"board{i}") for i in range(4)]
    farm.submit(trials=30)
    for turn in range(5):
        for board in boards:
            farm.beat(board)
        calls: list[Callable[[], object]] = [
            partial(farm.give, a.device_id, farm.ok(a.id))
            for a in farm.attempts()
            if not a.ended_at
        ]
        assert len(calls) == len(boards)
        calls += [partial(farm.submit, f"more{turn}{i}") for i in range(2)]
        calls += [partial(farm.farm.free_blobs, ["0" * 64])] * 3
        assert [o for o in at_once(calls) if isinstance(o, Exception)] == []


def test_reclaiming_at_once_takes_each_attempt_back_once(farm: FarmKit) -> None:
    farm.add_model()
    boards = [farm.device(f"board{i}") for i in range(4)]
    farm.submit("a", attempts=1, devices="{names: [board0, board1]}")
    farm.submit("b", attempts=1, devices="{names: [board2, board3]}")
    for board in boards:
        farm.beat(board)
        ingest.start_attempt(farm.farm, board, farm.last_rung())
    farm.clock.advance(31)
    outcomes = at_once([lambda: scheduler.reclaim(farm.farm)] * THREADS)
    assert all(isinstance(o, int) for o in outcomes), outcomes
    assert scheduler.reclaim(farm.farm) + sum(int(str(o)) for o in outcomes) == 4
    assert farm.states() == ["failed"] * 4
    assert {progress.sweep(farm.farm, n).state for n in "ab"} == {"failed"}


@pytest.mark.parametrize("what", ["sweep", "model"])
def test_of_several_that_want_one_name_one_gets_it(farm: FarmKit, what: str) -> None:
    farm.device()
    farm.add_model()
    text = spec_text("same")
    data = [onnx_files.dense_bytes(seed=1 + i) for i in range(4)]
    blobs = [farm.farm.blobs.put(d) for d in data]
    calls: dict[str, list[Callable[[], object]]] = {
        "sweep": [lambda: sweeps.submit(farm.farm, text, "f")] * 4,
        "model": [partial(add, farm.farm, NewModel("same", "f.onnx", b)) for b in blobs],
    }
    outcomes = at_once(calls[what])
    assert sum(isinstance(o, Conflict) for o in outcomes) == 3, outcomes
    rows = farm.rows()
    assert (rows["sweeps"], rows["cells"], rows["trials"]) == (
        (1,) * 3 if what == "sweep" else (0,) * 3
    )
    if what == "model":
        # blobs of refused requests are deleted: two models, each a file and a reference
        assert (rows["models"], len(farm.blobs())) == (2, 4)


def test_builds_results_cancels_and_resumes_at_once_leave_nobody_waiting(farm: FarmKit) -> None:
    """Waiting trials are released or ended in the same transaction as their build."""
    farm.add_model()
    bare = tuple(replace(tool, missing=("nncf",)) for tool in TOOLS)
    boards = [farm.device(f"b{i}", replace(device_facts(), tools=bare)) for i in range(3)]
    builder = farm.device("builder", builder="yes")
    farm.submit(
        trials=2,
        model="{name: dense, calibration: random}",
        runtimes="[{backend: onnxruntime, precision: int8, options: {per_channel: ['on', 'off']}}]",
        devices="{names: [b0, b1, b2]}",
    )
    built = Built("onnx", "int8", farm.farm.blobs.put(b"int8"), 4)
    for turn in range(20):
        for device in (builder, *boards):
            farm.beat(device)
        calls: list[Callable[[], object]] = []
        for attempt in (a for a in farm.attempts() if a.result is None and not a.note):
            given = farm.ok(attempt.id)
            if attempt.device_id == builder:
                given = replace(given, samples=None, built=built)
            calls.append(partial(farm.give, attempt.device_id, given))
        calls += [lambda: scheduler.tick(farm.farm)] * 2
        if turn < 4:
            calls += [lambda: sweeps.cancel(farm.farm, "first")] * 2
            calls += [lambda: sweeps.resume(farm.farm, "first")] * 2
        odd = [o for o in at_once(calls) if isinstance(o, Exception)]
        assert [o for o in odd if not isinstance(o, Superseded)] == []
        sweeps.resume(farm.farm, "first")
        by_id = {t.id: t for t in farm.trials()}
        for trial in by_id.values():
            waited = by_id[trial.waits_for].state if trial.waits_for else ""
            assert waited != "done", "released with it"
            if waited:
                assert trial.state == "pending"
    view = progress.sweep(farm.farm, "first")
    assert (view.state, view.counts, view.builds) == ("done", {"done": 12}, {"done": 2})
