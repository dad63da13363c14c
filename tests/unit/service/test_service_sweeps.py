"""Planning, submitting, cancelling and resuming sweeps; what is refused leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import event, select

from orchestrator.domain.errors import Conflict, NotFound, Superseded, UserError
from orchestrator.service.context import FarmContext
from orchestrator.service.devices import devices
from orchestrator.service.scheduling import ingest, scheduler
from orchestrator.service.sweeps import progress, sweeps
from orchestrator.store.tables import Cell, Device
from support.farms import FarmKit, device_facts, failed, spec_text

TWO = "[{backend: onnxruntime, precision: [fp32, fp16]}, {backend: openvino, threads: [1, 2]}]"


@pytest.fixture
def board(farm: FarmKit) -> int:
    farm.add_model()
    return farm.device()


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (
            spec_text(runtimes="[{backend: tensorrt}]"),
            UserError,
            "yaml:3: runtimes: unknown backend 'tensorrt'",
        ),
        (spec_text(model="nasnet"), NotFound, "mine.yaml:2: models: there is no model 'nasnet'"),
        (spec_text(devices="{names: [bord]}"), NotFound, "mine.yaml:4: devices.names: there is"),
        (spec_text(more="baseline: {backend: tvm}"), UserError, "has backend: tvm; name one"),
        (spec_text(more="baseline: {device: bord}"), UserError, "mine.yaml:7: baseline: no cell"),
        (
            spec_text(
                runtimes="[{backend: onnxruntime, threads: [1, 2]}]",
                more="baseline: {backend: onnxruntime}",
            ),
            UserError,
            "mine.yaml:7: baseline: every cell has backend onnxruntime, so each would be its own "
            "baseline; they differ in threads (1, 2): name threads too",
        ),
        (
            spec_text(devices="{select: {class: nano}}"),
            UserError,
            "yaml:4: devices: no device matches class=nano",
        ),
        (
            spec_text(runtimes="[{backend: onnxruntime, precision: fp16}]"),
            UserError,
            "no cell of this sweep can run: onnxruntime on CPU has no fp16",
        ),
        (spec_text(runtimes="[{backend: pytorch}]"), UserError, "torch is not installed"),
        (spec_text(runtimes="[]"), UserError, "runtimes: "),
        (spec_text("taken"), Conflict, "a sweep 'taken' exists"),
        (spec_text(more=f"batch_size: {list(range(1, 10_002))}"), UserError, "10001 cells"),
        ("name: [", UserError, "not YAML"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(
    farm: FarmKit, board: int, text: str, error: type[Exception], says: str
) -> None:
    farm.submit("taken")
    before = farm.rows()
    with pytest.raises(error) as caught:
        sweeps.submit(farm.farm, text, "mine.yaml")
    assert says in str(caught.value)
    assert farm.rows() == before


def test_the_limit_is_on_cells_not_on_configurations(farm: FarmKit, board: int) -> None:
    farm.device("other")
    limited = farm.farm.settings.model_copy(update={"max_cells": 3})
    small = FarmContext(**{**vars(farm.farm), "settings": limited})
    text = spec_text(runtimes="[{backend: onnxruntime, threads: [1, 2]}]")
    with pytest.raises(UserError, match="4 cells, more than the limit of 3"):
        sweeps.submit(small, text, "f")
    one = text.replace("devices: {}", "devices: {names: [board]}")
    assert sweeps.submit(small, one, "f").cells == 2


def test_a_plan_says_what_runs_where_and_why_not(farm: FarmKit, board: int) -> None:
    plan = sweeps.plan(farm.farm, spec_text(trials=2, runtimes=TWO), "f")
    told = [(c.label, c.trials, c.skip[:24]) for c in plan.cells]
    assert told == [
        ("dense onnxruntime fp32 CPU", 2, ""),
        ("dense onnxruntime fp16 CPU", 0, "onnxruntime on CPU has n"),
        ("dense openvino fp32 CPU threads=1", 2, ""),
        ("dense openvino fp32 CPU threads=2", 2, ""),
    ]
    assert plan.trials == 6
    assert farm.rows()["sweeps"] == 0, "planning writes nothing"
    view = farm.submit(trials=2, runtimes=TWO)
    assert (view.cells, view.skipped, view.trials) == (4, 1, 6)


def test_trials_are_interleaved_on_each_device_in_its_own_order(farm: FarmKit, board: int) -> None:
    other = farm.device("other")
    farm.submit(trials=4, runtimes="[{backend: onnxruntime, threads: [1, 2, 3, 4]}]")
    orders = []
    for device in (board, other):
        mine = [t for t in farm.trials() if t.device_id == device]
        assert [t.place for t in mine] == list(range(16))
        assert [t.number for t in mine] == sorted([0, 1, 2, 3] * 4)
        first = min(t.cell_id for t in mine)
        orders.append([t.cell_id - first for t in mine])
    assert orders[0] != orders[1]


def test_devices_work_side_by_side_in_an_estimate(farm: FarmKit, board: int) -> None:
    alone = sweeps.plan(farm.farm, spec_text(trials=3), "f").estimate_s
    farm.device("other")
    both = sweeps.plan(farm.farm, spec_text(trials=3), "f")
    assert (both.trials, both.estimate_s) == (6, alone)


def test_cancelling_stops_what_runs_and_what_waits(farm: FarmKit, board: int) -> None:
    farm.submit(trials=3)
    farm.beat(board)
    farm.give(board, farm.ok(farm.last_rung()))
    running = farm.last_rung()
    ingest.start_attempt(farm.farm, board, running)
    view = sweeps.cancel(farm.farm, "first")
    assert (view.state, view.counts) == ("cancelled", {"done": 1, "cancelled": 2})
    answer = farm.beat(board, running)
    assert (answer.renewed, answer.cancel) == (False, True)
    with pytest.raises(Superseded):
        farm.give(board, farm.ok(running))
    farm.clock.advance(60)
    farm.beat(board)
    assert scheduler.tick(farm.farm) == 0
    assert farm.states() == ["done", "cancelled", "cancelled"]


def test_resuming_runs_what_is_missing_and_keeps_results(farm: FarmKit, board: int) -> None:
    farm.submit(trials=3, attempts=1)
    farm.beat(board)
    farm.give(board, farm.ok(farm.last_rung()))
    farm.give(board, failed(farm.last_rung()))
    cancelled = farm.last_rung()
    sweeps.cancel(farm.farm, "first")
    before = {t.id: t.attempt for t in farm.trials()}
    view = sweeps.resume(farm.farm, "first")
    assert (view.state, view.finished_at) == ("running", None)
    assert farm.states() == ["done", "pending", "pending"]
    farm.beat(board)
    for _ in range(2):
        farm.give(board, farm.ok(farm.last_rung()))
    view = progress.sweep(farm.farm, "first")
    assert (view.state, view.counts) == ("done", {"done": 3})
    assert {t.id: t.attempt - before[t.id] for t in farm.trials()} == dict(
        zip(before, (0, 1, 1), strict=True)
    ), "the fencing token goes on where it was"
    with pytest.raises(Superseded):
        farm.give(board, farm.ok(cancelled))


def test_a_resume_opens_a_new_budget(farm: FarmKit, board: int) -> None:
    farm.submit(attempts=2)
    for _ in range(2):
        for _ in range(2):
            farm.clock.advance(10)
            farm.beat(board)
            farm.give(board, failed(farm.last_rung(), transient=True))
        assert farm.states() == ["failed"]
        assert sweeps.resume(farm.farm, "first").counts == {"pending": 1}
    assert farm.trials()[0].attempt == 4


@pytest.mark.parametrize("act", [sweeps.cancel, sweeps.resume])
def test_a_finished_sweep_stays_as_it_is(farm: FarmKit, board: int, act: object) -> None:
    farm.submit()
    farm.beat(board)
    farm.give(board, farm.ok(farm.last_rung()))
    finished = progress.sweep(farm.farm, "first").finished_at
    farm.clock.advance(99)
    view = act(farm.farm, "first")  # type: ignore[operator]
    assert (view.state, view.finished_at) == ("done", finished)
    with pytest.raises(NotFound, match="known: first"):
        act(farm.farm, "frist")  # type: ignore[operator]


def test_a_sweep_names_the_devices_that_it_waits_for(farm: FarmKit, board: int) -> None:
    farm.device("other")
    farm.submit()
    assert progress.sweep(farm.farm, "first").offline == []
    farm.clock.advance(60)
    farm.beat(board)
    view = progress.sweep(farm.farm, "first")
    assert view.offline == ["other"]
    assert [(p.device, p.state, p.attempt) for p in view.running] == [("board", "dispatched", 1)]


def test_a_drained_device_is_planned_around(farm: FarmKit, board: int) -> None:
    farm.device("other")
    devices.set_enabled(farm.farm, "other", False, "a new fan")
    skips = {c.device: c.skip for c in sweeps.plan(farm.farm, spec_text(), "f").cells}
    assert skips["board"] == ""
    assert 'drained ("a new fan"); `benchfarm device enable other`' in skips["other"]


def test_a_small_board_gets_its_class_limits_and_others_the_sweeps(
    farm: FarmKit, board: int
) -> None:
    nano = replace(
        device_facts("nano"), machine="aarch64", model="NVIDIA Jetson Nano Developer Kit"
    )
    farm.device("nano", replace(nano, memory_mib=3964.0))
    farm.submit(more="limits: {trial_s: 20}")
    with farm.farm.database.transaction() as session:
        cells = session.scalars(select(Cell)).all()
        bounds = {
            session.get_one(Device, c.device_id).name: (c.request or {})["limits"] for c in cells
        }
    assert bounds == {
        "board": {"convert_s": 600.0, "trial_s": 20.0, "memory_mib": 8192},
        "nano": {"convert_s": 1800.0, "trial_s": 20.0, "memory_mib": 2378},
    }


def test_a_big_sweep_takes_few_statements(farm: FarmKit, board: int) -> None:
    """Rows are inserted in batches: on SQLite all other writers wait meanwhile."""
    from sqlalchemy import event

    threads = ", ".join(str(n) for n in range(500))
    text = spec_text(trials=2, runtimes=f"[{{backend: onnxruntime, threads: [{threads}]}}]")
    statements: list[str] = []
    event.listen(
        farm.farm.database.engine,
        "before_cursor_execute",
        lambda _c, _k, statement, *_: statements.append(statement),
    )
    assert sweeps.submit(farm.farm, text, "f").trials == 1000
    assert len(statements) < 40, statements[:60]


@pytest.mark.parametrize("broken", [False, True])
def test_cancelling_rings_what_runs_so_that_it_asks_at_once(farm: FarmKit, broken: bool) -> None:
    farm.add_model()
    boards = [farm.device(f"b{n}") for n in range(3)]
    farm.submit(trials=2)
    for board in boards[:2]:
        farm.beat(board)
    running = farm.doorbells.published[:]
    assert len(running) == 2
    farm.doorbells.error = OSError("the broker is away") if broken else None
    assert sweeps.cancel(farm.farm, "first").counts == {"cancelled": 6}
    assert farm.doorbells.published == (running if broken else running * 2)
    for board, (_, attempt) in zip(boards, running, strict=False):
        assert farm.beat(board, attempt).cancel


def test_cancelling_and_resuming_a_large_sweep_takes_no_more_statements(
    farm: FarmKit, board: int
) -> None:
    def rows_written(name: str, trials: int) -> list[int]:
        farm.submit(name, trials=trials)
        counts = []
        for act in (sweeps.cancel, sweeps.resume, sweeps.cancel):
            with _written(farm.farm) as written:
                act(farm.farm, name)
            counts.append(len(written))
        return counts

    assert rows_written("small", 2) == rows_written("large", 60)


@contextmanager
def _written(farm: FarmContext) -> Iterator[list[str]]:
    """The statements that are executed meanwhile, one entry for each set of parameters."""
    found: list[str] = []

    def executed(
        _connection: object, _cursor: object, statement: str, given: object, _context: object,
        many: bool,
    ) -> None:  # fmt: skip
        found.extend([statement] * (len(given) if many and isinstance(given, list) else 1))

    event.listen(farm.database.engine, "before_cursor_execute", executed)
    yield found
    event.remove(farm.database.engine, "before_cursor_execute", executed)
