"""Boards that a sweep leaves out, and what a resume plans again once the reason has passed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select

from orchestrator.domain.errors import BoardsNotReady, Conflict, NotFound, UserError
from orchestrator.service.devices import devices, registration, retirement
from orchestrator.service.health import health_checks
from orchestrator.service.sweeps import partial_cancel, progress, sweeps
from orchestrator.store.tables import Cell
from support.farms import FarmKit, device_facts, spec_text, unsupported

TWO = "[{backend: onnxruntime, threads: [1, 2]}]"


@pytest.fixture
def boards(farm: FarmKit) -> tuple[int, int]:
    """``a`` and ``b``, both of bench 1."""
    farm.add_model()
    return farm.device("a", bench="1"), farm.device("b", bench="1")


def work(farm: FarmKit, device_id: int) -> None:
    """Run what is queued on a device."""
    while True:
        before = len(farm.doorbells.published)
        farm.beat(device_id)
        if len(farm.doorbells.published) == before:
            return
        while len(farm.doorbells.published) > before:
            before = len(farm.doorbells.published)
            farm.give(device_id, farm.ok(farm.last_rung()))


def test_a_resume_runs_what_was_skipped_while_its_board_was_drained(
    farm: FarmKit, boards: tuple[int, int]
) -> None:
    devices.set_enabled(farm.farm, "b", False, "a new fan")
    view = farm.submit(trials=2, runtimes=TWO)
    assert (view.cells, view.skipped, view.trials) == (4, 2, 4)
    assert view.left_out == {
        "b": 'the device is drained ("a new fan"); `benchfarm device enable b`'
    }
    work(farm, boards[0])
    assert progress.sweep(farm.farm, "first").state == "done"
    still = sweeps.resume(farm.farm, "first")
    assert (still.state, still.skipped) == ("done", 2), "nothing has passed yet"
    devices.set_enabled(farm.farm, "b", True)
    assert progress.sweep(farm.farm, "first").returned == ["b"]
    view = sweeps.resume(farm.farm, "first")
    assert (view.state, view.skipped, view.trials) == ("running", 0, 8)
    assert (view.left_out, view.returned) == ({}, [])
    work(farm, boards[1])
    view = progress.sweep(farm.farm, "first")
    assert (view.state, view.counts) == ("done", {"done": 8})
    rounds = [t.number for t in farm.trials() if t.device_id == boards[1]]
    assert rounds == [0, 0, 1, 1], "trials of the cells are interleaved in rounds"
    assert sweeps.resume(farm.farm, "first").trials == 8, "once only"


def test_a_resume_plans_again_whatever_the_reason_was(
    farm: FarmKit, boards: tuple[int, int]
) -> None:
    """A runtime that was added since, and one whose version the device had not."""
    runtimes = "[{backend: onnxruntime}, {backend: pytorch}, {backend: openvino==2027.0.0}]"
    view = farm.submit(runtimes=runtimes, devices="{names: [a]}")
    assert view.skipped == 2
    work(farm, boards[0])
    (onnxruntime, openvino, torch), tools = device_facts().runtimes, device_facts().tools
    torch = replace(torch, missing="", version="2.9", targets=onnxruntime.targets)
    torch = replace(torch, wants={"fp32": (("onnx", "fp32"),)})
    newer = replace(openvino, version="2027.0.0")
    facts = replace(device_facts("a", (onnxruntime, openvino, newer, torch)), tools=tools)
    registration.record_facts(farm.farm, boards[0], facts)
    view = sweeps.resume(farm.farm, "first")
    assert (view.skipped, view.counts) == (0, {"done": 1, "pending": 2})
    with farm.farm.database.read_session() as session:
        found = session.scalars(select(Cell).order_by(Cell.id)).all()
        assert [c.configuration["version"] for c in found] == ["1.31.1", "2.9", "2027.0.0"]
        assert all(c.request for c in found)


def test_two_versions_of_the_file_that_came_to_be_one_are_measured_once(
    farm: FarmKit, boards: tuple[int, int]
) -> None:
    runtimes = "[{backend: openvino, version: ['2027', '2027.0.0', '2026.4.1']}]"
    farm.submit(runtimes=runtimes, devices="{names: [a]}")
    work(farm, boards[0])
    onnxruntime, openvino, torch = device_facts().runtimes
    newer = replace(openvino, version="2027.0.0")
    facts = device_facts("a", (onnxruntime, newer, openvino, torch))
    registration.record_facts(farm.farm, boards[0], facts)
    view = sweeps.resume(farm.farm, "first")
    assert (view.skipped, view.trials) == (1, 2)
    assert sweeps.resume(farm.farm, "first").trials == 2


def test_a_reason_that_became_another_is_told_as_it_is_now(
    farm: FarmKit, boards: tuple[int, int]
) -> None:
    devices.set_enabled(farm.farm, "b", False)
    farm.submit()
    work(farm, boards[0])
    farm.submit("measured")
    retirement.retire(farm.farm, "b")
    assert "is retired" in sweeps.resume(farm.farm, "first").left_out["b"]


def test_a_resumed_board_that_is_not_selected_any_more_keeps_its_cells(
    farm: FarmKit, boards: tuple[int, int]
) -> None:
    """And one that is tagged later is not added: a sweep is what was asked for on its day."""
    devices.set_enabled(farm.farm, "b", False)
    farm.submit(devices="{select: {bench: '1'}}")
    work(farm, boards[0])
    farm.device("c", bench="1")
    devices.tag(farm.farm, "b", {"bench": ""})
    devices.set_enabled(farm.farm, "b", True)
    assert sweeps.resume(farm.farm, "first").trials == 2


def test_a_plan_says_which_boards_are_not_ready_and_why(
    farm: FarmKit, boards: tuple[int, int]
) -> None:
    farm.device("c")
    farm.clock.advance(60)
    farm.beat(boards[1])
    devices.set_enabled(farm.farm, "b", False)
    farm.beat(farm.device_id("c"))
    health_checks.set_maintenance(farm.farm, "c", True)
    plan = sweeps.plan(farm.farm, spec_text(), "f")
    assert {b.device: (b.cells, b.not_ready) for b in plan.boards} == {
        "a": (1, "is offline"),
        "b": (0, "is drained; `benchfarm device enable b`"),
        "c": (1, "in maintenance"),
    }
    before = farm.rows()
    with pytest.raises(BoardsNotReady) as caught:
        sweeps.submit(farm.farm, spec_text(), "f", strict=True)
    assert "a: is offline" in str(caught.value)
    assert "c: in maintenance" in str(caught.value)
    assert farm.rows() == before
    farm.beat(boards[0])
    health_checks.set_maintenance(farm.farm, "c", False)
    devices.set_enabled(farm.farm, "b", True)
    assert sweeps.submit(farm.farm, spec_text(), "f", strict=True).trials == 3


def test_strict_refuses_a_board_that_runs_no_cell(farm: FarmKit, boards: tuple[int, int]) -> None:
    bare = device_facts("c", device_facts().runtimes[1:])
    farm.device("c", bare)
    with pytest.raises(BoardsNotReady, match="c: the agent there knows no backend 'onnxruntime'"):
        sweeps.submit(farm.farm, spec_text(), "f", strict=True)


def test_a_sweep_by_tag_says_which_boards_it_had_before(
    farm: FarmKit, boards: tuple[int, int]
) -> None:
    by_tag = "{select: {bench: '1'}}"
    farm.device("c", bench="1")
    farm.submit("monday", devices=by_tag)
    devices.tag(farm.farm, "b", {"bench": "2"})
    retirement.retire(farm.farm, "c")
    text = spec_text("tuesday", devices=by_tag)
    plan = sweeps.plan(farm.farm, text, "f")
    assert [b.device for b in plan.boards] == ["a"]
    assert plan.missed == {
        "b": "was in sweep monday, and has bench=2 now",
        "c": "was in sweep monday, and is retired",
    }
    with pytest.raises(BoardsNotReady, match="b: was in sweep monday"):
        sweeps.submit(farm.farm, text, "f", strict=True)
    other = spec_text("other", devices="{select: {bench: '2'}}")
    assert sweeps.plan(farm.farm, other, "f").missed == {}, "another selection"


def test_a_retired_board_is_selected_by_name_only(farm: FarmKit, boards: tuple[int, int]) -> None:
    farm.submit()
    retirement.retire(farm.farm, "b")
    assert [b.device for b in sweeps.plan(farm.farm, spec_text("x"), "f").boards] == ["a"]
    named = sweeps.plan(farm.farm, spec_text("x", devices="{names: [a, b]}"), "f")
    assert [b.left_out for b in named.boards] == [
        "",
        "the device is retired; `benchfarm device add b` brings it back",
    ]
    with pytest.raises(UserError, match="no cell of this sweep can run: the device is retired"):
        sweeps.submit(farm.farm, spec_text("x", devices="{names: [b]}"), "f")


def test_a_board_that_comes_back_keeps_its_tags_and_the_sweeps_cells_wait_for_it(
    farm: FarmKit, boards: tuple[int, int]
) -> None:
    devices.tag(farm.farm, "b", {"rack": "2"})
    farm.submit()
    work(farm, boards[0])
    retirement.retire(farm.farm, "b")
    joined = registration.join_token(farm.farm, "b", tags={"rack": "3"}, again=True)
    assert joined.kept_tags == {"bench": "1", "rack": "2"}
    assert joined.former_runtimes == ["onnxruntime==1.31.1", "openvino==2026.4.1"]
    again = farm.device("b")
    assert again == boards[1]
    view = devices.device(farm.farm, "b")
    assert (view.tags, view.former_runtimes) == ({"bench": "1", "rack": "3"}, [])
    assert sweeps.resume(farm.farm, "first").counts == {"done": 1, "pending": 1}


def test_retiring_twice_says_that_it_is_retired(farm: FarmKit, boards: tuple[int, int]) -> None:
    farm.submit()
    retirement.retire(farm.farm, "b")
    with pytest.raises(
        Conflict, match="retired already, since 2025-03-30; `benchfarm device add b`"
    ):
        retirement.retire(farm.farm, "b")


def test_a_cell_of_a_model_that_is_gone_stays_skipped(
    farm: FarmKit, boards: tuple[int, int]
) -> None:
    from orchestrator.store.tables import Artifact, Model

    devices.set_enabled(farm.farm, "b", False)
    farm.submit()
    work(farm, boards[0])
    with farm.farm.database.transaction() as session:
        model = session.scalars(select(Model)).one()
        for artifact in session.scalars(select(Artifact)):
            session.delete(artifact)
        session.delete(model)
    devices.set_enabled(farm.farm, "b", True)
    view = sweeps.resume(farm.farm, "first")
    assert view.left_out == {"b": "there is no model 'dense' any more"}


# --- cancelling a part


def test_one_cell_is_cancelled_and_the_others_go_on(farm: FarmKit, boards: tuple[int, int]) -> None:
    farm.submit(trials=2, runtimes=TWO, devices="{names: [a]}")
    farm.beat(boards[0])
    label = "dense onnxruntime fp32 CPU threads=1"
    view = partial_cancel.cancel_part(farm.farm, "first", cell=label)
    assert view.state == "running"
    assert view.counts["cancelled"] == 2
    again = partial_cancel.cancel_part
    with pytest.raises(Conflict, match="nothing to cancel, what you name is cancelled"):
        again(farm.farm, "first", cell=label)
    with pytest.raises(NotFound, match="there is no cell 'dense'; known: dense onnxruntime"):
        again(farm.farm, "first", cell="dense")
    with pytest.raises(NotFound, match="there is no device 'b'; known: a"):
        again(farm.farm, "first", device="b")
    other = "dense onnxruntime fp32 CPU threads=2"
    with pytest.raises(NotFound, match="there is no trial '3'; known: 1, 2"):
        again(farm.farm, "first", cell=other, trial=3)
    assert again(farm.farm, "first", cell=other, trial=2).counts["cancelled"] == 3
    assert again(farm.farm, "first", device="a").state == "cancelled"
    assert sweeps.resume(farm.farm, "first").counts == {"pending": 4}


def test_a_running_trial_of_a_cancelled_cell_is_told_at_once(
    farm: FarmKit, boards: tuple[int, int]
) -> None:
    farm.submit(devices="{names: [a]}")
    farm.beat(boards[0])
    running = farm.doorbells.published[:]
    partial_cancel.cancel_part(farm.farm, "first", device="a")
    assert farm.doorbells.published == running * 2
    assert farm.beat(boards[0], running[0][1]).cancel


def test_an_unsupported_cell_is_a_result_that_a_resume_leaves(
    farm: FarmKit, boards: tuple[int, int]
) -> None:
    farm.submit(devices="{names: [a]}")
    farm.beat(boards[0])
    farm.give(boards[0], unsupported(farm.last_rung()))
    assert sweeps.resume(farm.farm, "first").counts == {"unsupported": 1}
