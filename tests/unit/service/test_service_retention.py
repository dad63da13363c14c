"""Deleting sweeps, pruning, and the blobs that this frees or must not free; on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import timedelta
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from sqlalchemy import select

from agent.contract import codec
from agent.contract.trial import Built, TrialRequest, TrialResult
from orchestrator.domain.errors import Conflict, FarmError, NotFound
from orchestrator.report.build import build_report
from orchestrator.service import events
from orchestrator.service.models import registration
from orchestrator.service.models.registration import NewModel
from orchestrator.service.scheduling import ingest
from orchestrator.service.sweeps import progress, report_data, retention, sweeps
from orchestrator.service.sweeps.retention import Policy
from orchestrator.store import blob_references
from orchestrator.store.blob_references import BLOB_COLUMNS, BlobGone
from orchestrator.store.tables import Attempt, Cell, Event
from support import onnx_files
from support.farms import FarmKit

DAY = 86_400.0


@pytest.fixture
def board(farm: FarmKit) -> int:
    farm.add_model()
    return farm.device("board")


def measured(
    farm: FarmKit, board: int, name: str = "first", samples: tuple[int, ...] = (1000, 1100, 1050)
) -> TrialResult:
    farm.submit(name)
    farm.beat(board)
    result = farm.ok(farm.last_rung(), samples)
    farm.give(board, result)
    return result


def digest(result: TrialResult) -> str:
    assert result.samples is not None
    return result.samples.sha256


def test_a_deleted_sweep_is_gone_with_what_it_alone_used(farm: FarmKit, board: int) -> None:
    before = (farm.rows(), farm.blobs())
    result = measured(farm, board)
    gone = retention.delete_sweep(farm.farm, "first")
    assert (gone.trials, gone.freed_blobs) == (1, 1)
    assert result.samples is not None
    assert gone.freed_bytes == result.samples.size_bytes
    after = farm.rows()
    assert {**after, "events": 0} == {**before[0], "events": 0}
    assert farm.blobs() == before[1]
    with pytest.raises(NotFound):
        progress.sweep(farm.farm, "first")
    assert events.after(farm.farm, 0, 99)[-1].kind == "sweep_deleted"
    with pytest.raises(NotFound):
        retention.delete_sweep(farm.farm, "first")
    measured(farm, board)  # its name is free


def test_a_running_sweep_is_not_deleted_a_cancelled_one_is(farm: FarmKit, board: int) -> None:
    farm.submit()
    farm.beat(board)
    attempt = farm.last_rung()
    before = farm.rows()
    with pytest.raises(Conflict, match="runs; end it first: `benchfarm sweep cancel first`"):
        retention.delete_sweep(farm.farm, "first")
    assert farm.rows() == before
    sweeps.cancel(farm.farm, "first")
    retention.delete_sweep(farm.farm, "first")
    # a board that still runs it is told to stop, and its result does not count
    assert farm.beat(board, attempt).cancel
    with pytest.raises(FarmError):
        farm.give(board, farm.ok(attempt))
    assert farm.rows()["attempts"] == 0


def test_samples_that_another_sweep_has_too_stay(farm: FarmKit, board: int) -> None:
    same = digest(measured(farm, board, "first"))
    assert digest(measured(farm, board, "second")) == same
    assert retention.delete_sweep(farm.farm, "first").freed_blobs == 0
    assert farm.farm.blobs.has(same)
    assert retention.delete_sweep(farm.farm, "second").freed_blobs == 1


def test_what_a_sweep_built_and_another_runs_stays(farm: FarmKit, board: int) -> None:
    built = farm.farm.blobs.put(b"engine")
    measured(farm, board, "first")
    farm.submit("second")
    with farm.farm.database.transaction() as session:
        first, second = session.scalars(select(Cell).order_by(Cell.id))
        attempt = session.scalars(select(Attempt)).one()
        result = codec.to_plain(Built("tflite", "int8", built, 6))
        attempt.result = {**(attempt.result or {}), "built": result}
        request = dict(second.request or {})
        second.request = {**request, "model": {**request["model"], "sha256": built}}
    retention.delete_sweep(farm.farm, "first")
    assert farm.farm.blobs.has(built)
    assert first.id != second.id


def test_every_blob_that_the_contract_names_has_its_place(farm: FarmKit) -> None:
    """The blob of a new field ``sha256`` that is missing in BLOB_COLUMNS would be deleted."""
    named: set[tuple[type, tuple[str, ...]]] = {(Cell, path) for path in _paths(TrialRequest)}
    named |= {(Attempt, path) for path in _paths(TrialResult)}
    assert named == {(p.owner, p.path) for p in BLOB_COLUMNS if p.owner in (Cell, Attempt)}


def _paths(kind: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    hints = get_type_hints(kind)
    for field in fields(kind):
        hint = hints[field.name]
        if get_origin(hint) is Union:
            hint = next(a for a in get_args(hint) if a is not type(None))
        if field.name == "sha256":
            yield at
        elif is_dataclass(hint):
            yield from _paths(hint, (*at, field.name))


# --- races


def test_a_result_whose_blob_was_freed_is_asked_for_again(farm: FarmKit, board: int) -> None:
    """Two boards measured the very same samples; the first one's sweep is deleted in between."""
    same = digest(measured(farm, board, "first"))
    farm.submit("second")
    farm.beat(board)
    late = farm.ok(farm.last_rung())
    assert digest(late) == same
    retention.delete_sweep(farm.farm, "first")
    with pytest.raises(BlobGone) as caught:
        farm.give(board, late)
    assert caught.value.transient
    farm.give(board, farm.ok(late.attempt_id))  # which uploads it once more
    assert progress.sweep(farm.farm, "second").state == "done"
    assert report_data.collect_sweep(farm.farm, "second").cells[0].trials[0].samples_ns is not None


def test_no_blob_is_freed_that_a_transaction_is_about_to_refer_to(
    farm: FarmKit, board: int
) -> None:
    """Deleting and referring at the same time: blobs that are referred to are stored."""
    measured(farm, board, "first")
    blob = b"contended"
    sha256 = farm.farm.blobs.put(blob)
    failures: list[str] = []
    stop = threading.Event()

    def free() -> None:
        while not stop.wait(0.001):  # else the others starve on a busy machine
            with farm.farm.database.transaction() as session:
                blob_references.free_unreferenced(session, farm.farm.blobs, [sha256])

    def refer(built: dict[str, object] | None) -> None:
        with farm.farm.database.transaction() as session:
            if built:
                blob_references.share_blobs_lock(session, farm.farm.blobs, [sha256])
            attempt = session.scalars(select(Attempt)).one()
            attempt.result = {**(attempt.result or {}), "built": built}

    freeing = threading.Thread(target=free)
    freeing.start()
    referred = 0
    try:
        for _ in range(1000):
            if referred == 10:
                break
            farm.farm.blobs.put(blob)
            try:
                refer({"sha256": sha256, "size_bytes": len(blob)})
            except BlobGone:
                continue
            referred += 1
            if not farm.farm.blobs.has(sha256):
                failures.append("a blob was freed that a row refers to")
            refer(None)
    finally:
        stop.set()
        freeing.join()
    assert failures == []
    assert referred > 0


def test_a_refused_model_does_not_take_the_blob_that_another_request_registers(
    farm: FarmKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file in two requests: one is refused, and frees it, while the other computes."""
    sha256 = farm.farm.blobs.put(onnx_files.dense_bytes())
    compute = farm.farm.compute_reference

    def meanwhile(job: Any) -> Any:
        found = compute(job)
        with pytest.raises(FarmError):
            registration.add(farm.farm, NewModel("no/name", "dense.onnx", sha256))
        assert not farm.farm.blobs.has(sha256)
        return found

    object.__setattr__(farm.farm, "compute_reference", meanwhile)
    with pytest.raises(BlobGone, match="upload the blob first"):
        registration.add(farm.farm, NewModel("dense", "dense.onnx", sha256))
    assert (farm.rows()["models"], farm.blobs()) == (0, set())


# --- pruning


def test_pruned_samples_leave_the_report_as_it_was_and_say_so(farm: FarmKit, board: int) -> None:
    samples = tuple(1000 + 7 * (i % 13) for i in range(200))
    blob = digest(measured(farm, board, samples=samples))
    before = build_report(report_data.collect_sweep(farm.farm, "first"))
    assert before.rows[0].p50_ms is not None
    assert report_data.frozen_report(farm.farm, "first") is None
    farm.clock.advance(91 * DAY)
    done = retention.prune(farm.farm, Policy(samples=timedelta(days=90)))
    assert (done.samples, done.freed_blobs, done.kept) == (("first",), 1, ())
    assert not farm.farm.blobs.has(blob)
    after = report_data.frozen_report(farm.farm, "first")
    assert after is not None
    assert after.rows == before.rows
    assert after.notes[: len(before.notes)] == before.notes
    assert "raw samples were pruned on 2025-06-" in after.notes[-1]
    # the kept report is pruned once, and is no orphan
    again = retention.prune(farm.farm, Policy(samples=timedelta(days=90)))
    assert (again.samples, again.freed_blobs) == ((), 0)
    with farm.farm.database.transaction() as session:
        assert blob_references.free_unreferenced(session, farm.farm.blobs, farm.blobs()) == set()
    # deleting the sweep deletes its report
    retention.delete_sweep(farm.farm, "first")
    measured(farm, board)
    assert report_data.frozen_report(farm.farm, "first") is None


def test_only_what_is_old_enough_is_pruned(farm: FarmKit, board: int) -> None:
    measured(farm, board, "old", (1, 2, 3))
    farm.clock.advance(50 * DAY)
    measured(farm, board, "young", (4, 5, 6))
    farm.submit("running")
    farm.clock.advance(50 * DAY)
    policy = Policy(sweeps=timedelta(days=90), samples=timedelta(days=40), events=timedelta(95))
    before = (farm.rows(), farm.blobs())
    due = retention.preview(farm.farm, policy)
    assert (due.sweeps, due.samples) == (("old",), ("young",))
    assert due.events > 0
    assert (farm.rows(), farm.blobs()) == before
    done = retention.prune(farm.farm, policy)
    assert (done.sweeps, done.samples, done.events) == (due.sweeps, due.samples, due.events)
    assert [s.name for s in progress.sweeps(farm.farm)] == ["young", "running"]
    told = events.after(farm.farm, 0, 99)
    assert all(farm.clock.at - e.at < timedelta(days=95) for e in told)
    (said,) = [e for e in told if e.kind == "events_pruned"]
    assert said.data["count"] == due.events


def test_events_that_a_report_hangs_on_outlive_their_age(farm: FarmKit, board: int) -> None:
    measured(farm, board)
    retention.prune(farm.farm, Policy(samples=timedelta(0) - timedelta(1)))
    farm.clock.advance(400 * DAY)
    retention.prune(farm.farm, Policy(events=timedelta(days=365)))
    assert {e.kind for e in events.after(farm.farm, 0, 99)} == {"samples_pruned", "events_pruned"}
    assert report_data.frozen_report(farm.farm, "first") is not None


def test_a_pruned_sweep_is_not_resumed(farm: FarmKit, board: int) -> None:
    farm.submit(trials=2)
    farm.beat(board)
    farm.give(board, farm.ok(farm.last_rung()))
    sweeps.cancel(farm.farm, "first")
    retention.prune_samples(farm.farm, "first")
    with pytest.raises(Conflict, match="pruned: run it anew"):
        sweeps.resume(farm.farm, "first")
    assert progress.sweep(farm.farm, "first").counts == {"done": 1, "cancelled": 1}


def test_samples_whose_report_cannot_be_computed_are_kept(farm: FarmKit, board: int) -> None:
    blob = digest(measured(farm, board))
    farm.farm.blobs.path(blob).write_bytes(b"damaged")
    farm.clock.advance(91 * DAY)
    done = retention.prune(farm.farm, Policy(samples=timedelta(days=90)))
    assert done.samples == ()
    assert done.kept[0].startswith("first: its samples are kept: samples ")
    assert farm.farm.blobs.has(blob)


# --- the event log


def test_nothing_but_pruning_changes_or_deletes_an_event(
    farm: FarmKit, board: int, watch_events: Callable[[], list[str]]
) -> None:
    statements = watch_events()
    measured(farm, board)
    farm.submit("second", trials=2)
    sweeps.cancel(farm.farm, "second")
    sweeps.resume(farm.farm, "second")
    farm.clock.advance(3600)
    from orchestrator.service.devices import devices, retirement
    from orchestrator.service.scheduling import scheduler

    scheduler.tick(farm.farm)
    sweeps.cancel(farm.farm, "second")
    devices.tag(farm.farm, "board", {"a": "b"})
    devices.set_enabled(farm.farm, "board", False)
    retention.delete_sweep(farm.farm, "second")
    retirement.retire(farm.farm, "board")
    retention.prune(farm.farm, Policy(samples=timedelta(0), sweeps=timedelta(0)))
    assert statements == []
    farm.clock.advance(10)
    retention.prune(farm.farm, Policy(events=timedelta(0)))
    assert [s.split()[0] for s in statements] == ["DELETE"]


@pytest.fixture
def watch_events(farm: FarmKit) -> Callable[[], list[str]]:
    """Records statements that change or delete rows of ``events``."""
    from sqlalchemy import event

    def start() -> list[str]:
        found: list[str] = []

        def see(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if statement.lstrip().upper().startswith(("UPDATE EVENTS", "DELETE FROM EVENTS")):
                found.append(statement)

        event.listen(farm.farm.database.engine, "before_cursor_execute", see)
        return found

    return start


def test_the_log_is_asked_by_subject_kind_and_age(farm: FarmKit, board: int) -> None:
    measured(farm, board)
    farm.clock.advance(100)
    farm.submit("second")
    start = farm.clock.at - timedelta(seconds=10)

    def kinds(**wanted: Any) -> list[str]:
        return [e.kind for e in events.find(farm.farm, events.EventFilter(**wanted))]

    assert kinds(subject="first") == ["sweep_submitted", "trial_ended", "sweep_finished"]
    assert kinds(kind="sweep_submitted") == ["sweep_submitted"] * 2
    assert kinds(since=start) == ["sweep_submitted"]
    everything = events.find(farm.farm, events.EventFilter())
    latest = events.find(farm.farm, events.EventFilter(limit=2, latest=True))
    assert latest == everything[-2:]


def test_events_of_before_actors_were_noted_have_none(farm: FarmKit) -> None:
    with farm.farm.database.transaction() as session:
        session.add(Event(kind="k", subject="s", data={"a": 1}))
        session.flush()
        farm.farm.record_event(session, "k", "s", a=2)
    old, new = events.after(farm.farm, 0, 9)
    assert (old.by, old.data) == ("", {"a": 1})
    assert (new.by, new.data) == ("controller", {"a": 2})


def test_a_result_that_comes_twice_after_pruning_changes_nothing(farm: FarmKit, board: int) -> None:
    result = measured(farm, board)
    retention.prune_samples(farm.farm, "first")
    frozen = report_data.frozen_report(farm.farm, "first")
    farm.ok(result.attempt_id)
    ingest.accept_result(farm.farm, board, result.attempt_id, result)
    assert report_data.frozen_report(farm.farm, "first") == frozen
