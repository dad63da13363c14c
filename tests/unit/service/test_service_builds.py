"""Builds for other devices: waited for, released, failed, cancelled, reused."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from agent.contract.conversion_graph import Tool
from agent.contract.trial import Built, Failure, Options, TensorSpec, TrialRequest, TrialResult
from orchestrator.domain import retry
from orchestrator.domain.errors import FarmError, UserError
from orchestrator.service.devices import devices as fleet
from orchestrator.service.devices import registration, retirement
from orchestrator.service.scheduling import dispatch, ingest, scheduler
from orchestrator.service.sweeps import progress, report_data, sweeps
from orchestrator.service.trials.builds import KEYS_PER_QUERY
from orchestrator.service.views import SweepView
from support.farms import TOOLS, FarmKit, device_facts, failed, runtime_facts, spec_text

INT8 = "[{backend: openvino, precision: int8}]"
"""A format that the board's runtime loads, but whose quantiser the board lacks."""
LABEL = "building openvino_ir in int8 for dense"
BARE: tuple[Tool, ...] = tuple(replace(tool, missing=("nncf",)) for tool in TOOLS)


@dataclass
class Pair:
    """A farm of a board that cannot quantise and a builder that can."""

    kit: FarmKit
    board: int
    builder: int

    def submit(
        self, name: str = "first", runtimes: str = INT8, trials: int = 1, attempts: int = 3
    ) -> None:
        model = "{name: dense, calibration: random}"
        devices = "{names: [board]}"
        self.kit.submit(name, trials, attempts, runtimes=runtimes, model=model, devices=devices)

    def rung(self, device: int) -> str:
        """Send a device's heartbeat; returns the attempt of its doorbell, or an empty string."""
        before = len(self.kit.doorbells.published)
        self.kit.beat(device)
        return self.kit.last_rung() if len(self.kit.doorbells.published) > before else ""

    def request(self, device: int, attempt: str) -> TrialRequest:
        return ingest.start_attempt(self.kit.farm, device, attempt).request

    def built(
        self, attempt: str, content: bytes = b"PK quantised", **changes: object
    ) -> TrialResult:
        made = Built(
            format="openvino_ir",
            precision="int8",
            sha256=self.kit.farm.blobs.put(content),
            size_bytes=len(content),
            entry="model.xml",
            inputs=(TensorSpec("own", "float32", (1, 16)),),
            steps=("nncf_quantize 3.4.0",),
        )
        changed = replace(made, **changes)  # type: ignore[arg-type]
        return replace(self.kit.ok(attempt), samples=None, built=changed)

    @property
    def view(self) -> SweepView:
        return progress.sweep(self.kit.farm, "first")


@pytest.fixture
def pair(farm: FarmKit) -> Pair:
    farm.add_model()
    board = farm.device("board", replace(device_facts("board"), tools=BARE))
    return Pair(farm, board, farm.device("x86-01", builder="yes"))


def test_a_plan_says_who_builds_what(pair: Pair) -> None:
    text = spec_text(model="{name: dense, calibration: random}", runtimes=INT8)
    cells = {c.device: c for c in sweeps.plan(pair.kit.farm, text, "f").cells}
    assert cells["board"].built == "x86-01: onnx → openvino_ir in int8"
    assert cells["board"].skip == ""
    assert cells["x86-01"].built == "", "its own way"
    fleet.tag(pair.kit.farm, "x86-01", {"builder": "no"})
    skip = {c.device: c.skip for c in sweeps.plan(pair.kit.farm, text, "f").cells}["board"]
    assert "board lacks a tool: nncf_quantize needs nncf" in skip


def test_what_waits_is_not_given_out_before_it_is_built(pair: Pair) -> None:
    pair.submit(trials=2)
    assert pair.rung(pair.board) == ""
    assert scheduler.tick(pair.kit.farm) == 1, "the builder alone is rung"
    attempt = pair.kit.last_rung()
    assert pair.kit.doorbells.published == [("x86-01", attempt)]
    view = pair.view
    assert (view.cells, view.trials, view.counts) == (1, 2, {"pending": 2})
    assert view.builds == {"dispatched": 1}
    assert [(p.cell, p.device, p.build) for p in view.running] == [(LABEL, "x86-01", True)]
    request = pair.request(pair.builder, attempt)
    assert request.build == ("openvino_ir", "int8")
    assert request.runtime.via == ("nncf_quantize",)
    assert (request.model.format, request.calibration) == ("onnx", "random")
    assert pair.rung(pair.board) == ""


def test_what_was_built_is_what_those_that_waited_run(pair: Pair) -> None:
    pair.submit(trials=2)
    attempt = pair.rung(pair.builder)
    source = pair.request(pair.builder, attempt).model.sha256
    result = pair.built(attempt)
    pair.kit.give(pair.builder, result)
    assert result.built is not None
    for _ in range(2):
        mine = pair.kit.last_rung() if pair.kit.doorbells.published[-1][0] == "board" else ""
        mine = mine or pair.rung(pair.board)
        request = pair.request(pair.board, mine)
        model = request.model
        assert (request.build, model.format, model.precision) == (None, "openvino_ir", "int8")
        assert (model.sha256, model.entry) == (result.built.sha256, "model.xml")
        assert model.sha256 != source
        assert model.own_inputs == result.built.inputs
        assert model.made == ("nncf_quantize 3.4.0, on builder x86-01",)
        assert request.runtime.via == ()
        pair.kit.give(pair.board, replace(pair.kit.ok(mine), conversion=model.made))
    view = pair.view
    assert (view.state, view.counts, view.builds) == ("done", {"done": 2}, {"done": 1})
    [cell] = report_data.collect_sweep(pair.kit.farm, "first").cells
    assert (cell.device, len(cell.trials)) == ("board", 2)
    assert cell.source_size_bytes == len(pair.kit.farm.blobs.read(source))


def test_one_build_serves_every_cell_that_wants_the_same(pair: Pair) -> None:
    pair.submit(runtimes="[{backend: openvino, precision: int8, threads: [1, 2, 4]}]")
    assert pair.view.builds == {"pending": 1}
    assert pair.view.counts == {"pending": 3}


def test_options_that_the_converter_reads_tell_builds_apart(pair: Pair) -> None:
    quantised = "[{backend: onnxruntime, precision: int8, threads: [1, 2], "
    pair.submit(runtimes=quantised + "options: {per_channel: ['on', 'off']}}]")
    assert pair.view.builds == {"pending": 2}
    options: list[Options] = []
    for _ in range(2):
        attempt = pair.kit.last_rung() if options else pair.rung(pair.builder)
        options.append(pair.request(pair.builder, attempt).runtime.options)
        made = pair.built(attempt, format="onnx", entry="", content=repr(options).encode())
        pair.kit.give(pair.builder, made)
    assert sorted(o["per_channel"] for o in options) == ["off", "on"]
    mine = pair.rung(pair.board)
    assert pair.request(pair.board, mine).runtime.options == {}, "the board's tools know none"


def test_a_build_that_fails_ends_those_that_wait_with_its_reason(pair: Pair) -> None:
    pair.submit(trials=2)
    pair.kit.give(pair.builder, failed(pair.rung(pair.builder)))
    view = pair.view
    assert (view.state, view.counts) == ("failed", {"failed": 2})
    messages = {p.message for p in view.problems if not p.build}
    assert len(messages) == 1
    assert f"{LABEL} on builder x86-01: SIGSEGV in the vendor's library" in messages.pop()
    [cell] = report_data.collect_sweep(pair.kit.farm, "first").cells
    failures = [t.result.failure for t in cell.trials]
    assert [f.message for f in failures if f] == [
        f"{LABEL} on builder x86-01: SIGSEGV in the vendor's library"
    ] * 2


def test_what_cannot_be_converted_is_unsupported_on_the_board_too(pair: Pair) -> None:
    pair.submit(trials=2)
    failure = Failure("convert", "unsupported_operator", "NonMaxSuppression")
    attempt = pair.rung(pair.builder)
    pair.kit.give(pair.builder, replace(failed(attempt, status="unsupported"), failure=failure))
    assert pair.view.counts == {"unsupported": 2}
    assert pair.view.state == "done"
    [cell] = report_data.collect_sweep(pair.kit.farm, "first").cells
    assert {t.result.status for t in cell.trials} == {"unsupported"}


def test_a_lost_build_is_tried_again_and_then_fails_those_that_wait(pair: Pair) -> None:
    pair.submit(attempts=2)
    for left in ("pending", "failed"):
        attempt = pair.rung(pair.builder)
        pair.request(pair.builder, attempt)
        pair.kit.clock.advance(pair.kit.farm.settings.lease_s + 1)
        scheduler.reclaim(pair.kit.farm)
        pair.kit.clock.advance(retry.FIRST_S)
        assert pair.view.counts == {left: 1}
    message = next(p.message for p in pair.view.problems if not p.build)
    assert "lease ran out while running" in message


def test_a_failed_build_and_what_waited_for_it_are_resumed(pair: Pair) -> None:
    pair.submit()
    pair.kit.give(pair.builder, failed(pair.rung(pair.builder)))
    assert sweeps.resume(pair.kit.farm, "first").state == "running"
    assert pair.rung(pair.board) == "", "it waits again"
    pair.kit.give(pair.builder, pair.built(pair.rung(pair.builder)))
    mine = pair.rung(pair.board)
    pair.kit.give(pair.board, pair.kit.ok(mine))
    assert (pair.view.state, pair.view.counts) == ("done", {"done": 1})
    [cell] = report_data.collect_sweep(pair.kit.farm, "first").cells
    assert [t.result.status for t in cell.trials] == ["ok"]


def test_cancelling_while_it_is_built(pair: Pair) -> None:
    pair.submit(trials=2)
    attempt = pair.rung(pair.builder)
    pair.request(pair.builder, attempt)
    view = sweeps.cancel(pair.kit.farm, "first")
    assert (view.state, view.counts, view.builds) == (
        "cancelled",
        {"cancelled": 2},
        {"cancelled": 1},
    )
    assert pair.kit.beat(pair.builder, attempt).cancel
    assert sweeps.resume(pair.kit.farm, "first").builds == {"pending": 1}
    assert pair.rung(pair.board) == ""
    pair.kit.give(pair.builder, pair.built(pair.rung(pair.builder)))
    assert pair.rung(pair.board)


def test_what_was_built_before_is_not_built_again(pair: Pair) -> None:
    pair.submit()
    pair.kit.give(pair.builder, pair.built(pair.rung(pair.builder)))
    pair.submit("second")
    second = progress.sweep(pair.kit.farm, "second")
    assert (second.builds, second.counts) == ({}, {"pending": 1})
    for _ in range(2):
        mine = pair.kit.last_rung() if pair.kit.doorbells.published[-1][0] == "board" else ""
        mine = mine or pair.rung(pair.board)
        assert pair.request(pair.board, mine).model.format == "openvino_ir"
        pair.kit.give(pair.board, pair.kit.ok(mine))


def test_it_is_built_again_where_its_blob_is_gone_or_the_builder_has_changed(pair: Pair) -> None:
    pair.submit()
    result = pair.built(pair.rung(pair.builder))
    pair.kit.give(pair.builder, result)
    facts = device_facts("x86-01", tuple(replace(r, version="9") for r in runtime_facts()))
    registration.record_facts(pair.kit.farm, pair.builder, facts)
    pair.submit("upgraded")
    assert progress.sweep(pair.kit.farm, "upgraded").builds == {"pending": 1}
    registration.record_facts(pair.kit.farm, pair.builder, device_facts("x86-01"))
    assert result.built is not None
    pair.kit.farm.blobs.delete([result.built.sha256])
    pair.submit("gone")
    assert progress.sweep(pair.kit.farm, "gone").builds == {"pending": 1}


def test_an_idle_builder_that_is_online_is_asked_before_one_that_is_not(pair: Pair) -> None:
    pair.kit.enrol("a-first-by-name", builder="yes")  # has never beaten
    text = spec_text(
        model="{name: dense, calibration: random}", runtimes=INT8, devices="{names: [board]}"
    )
    assert sweeps.plan(pair.kit.farm, text, "f").cells[0].built.startswith("x86-01: ")
    fleet.set_enabled(pair.kit.farm, "x86-01", False)
    assert sweeps.plan(pair.kit.farm, text, "f").cells[0].built.startswith("a-first-by-name: ")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ({"built": None}, "has samples, or what was built"),
        ({"status": "invalid", "built": None}, "says why in its failure"),
        ({"precision": "fp32"}, "this attempt is to build openvino_ir in int8"),
        ({"sha256": "0" * 64}, "upload the blob first"),
    ],
)
def test_a_result_that_is_no_build_changes_nothing(
    pair: Pair, spoil: dict[str, object], says: str
) -> None:
    pair.submit()
    attempt = pair.rung(pair.builder)
    good = pair.built(attempt)
    assert good.built is not None
    if set(spoil) <= {"precision", "sha256"}:
        wrong = replace(good, built=replace(good.built, **spoil))  # type: ignore[arg-type]
    else:
        wrong = replace(good, **spoil)  # type: ignore[arg-type]
    with pytest.raises(FarmError, match=says):
        pair.kit.give(pair.builder, wrong)
    assert pair.view.builds == {"dispatched": 1}
    pair.kit.give(pair.builder, good)
    assert pair.view.builds == {"done": 1}


def test_a_measurement_cannot_be_answered_by_a_build_nor_the_other_way(pair: Pair) -> None:
    pair.submit()
    attempt = pair.rung(pair.builder)
    with pytest.raises(UserError, match="to build"):
        pair.kit.give(pair.builder, pair.kit.ok(attempt))
    pair.kit.give(pair.builder, pair.built(attempt))
    mine = pair.rung(pair.board)
    with pytest.raises(UserError, match="to measure, not to build"):
        pair.kit.give(pair.board, pair.built(mine))


def test_a_builders_own_measurements_come_after_what_it_builds(pair: Pair) -> None:
    model = "{name: dense, calibration: random}"
    pair.kit.submit("first", runtimes=INT8, model=model, trials=3)
    assert pair.request(pair.builder, pair.rung(pair.builder)).build is not None


def test_many_builds_are_looked_up_in_few_statements(pair: Pair) -> None:
    from sqlalchemy import event

    cells = KEYS_PER_QUERY + 1
    depths = ", ".join(f"'{n}'" for n in range(cells))
    tools = tuple(replace(t, options={"depth": ()}) for t in TOOLS)
    facts = replace(device_facts("x86-01"), tools=tools)
    registration.record_facts(pair.kit.farm, pair.builder, facts)
    statements: list[str] = []
    event.listen(
        pair.kit.farm.database.engine,
        "before_cursor_execute",
        lambda _c, _k, statement, *_: statements.append(statement),
    )
    pair.submit(
        runtimes=f"[{{backend: openvino, precision: int8, options: {{depth: [{depths}]}}}}]"
    )
    assert len(statements) < 50
    assert pair.view.builds == {"pending": cells}


@pytest.mark.parametrize(
    "tag",
    [
        {"name": "x"},
        {"class": "x"},
        {"a b": "x"},
        {"builder": "1"},
        {"rack": "a\nb"},
        {"rack": "\0"},
        {"rack": "x" * 201},
    ],
)
def test_a_tag_that_is_none_is_refused(pair: Pair, tag: dict[str, str]) -> None:
    with pytest.raises(UserError, match="tag"):
        fleet.tag(pair.kit.farm, "board", tag)
    with pytest.raises(UserError, match="tag"):
        registration.join_token(pair.kit.farm, "new", tags=tag)


def test_an_empty_value_removes_a_tag(pair: Pair) -> None:
    fleet.tag(pair.kit.farm, "x86-01", {"rack": "2"})
    view = fleet.tag(pair.kit.farm, "x86-01", {"builder": ""})
    assert view.tags == {"rack": "2"}
    assert not dispatch.dispatch(pair.kit.farm, pair.builder)


def test_a_retired_builder_takes_what_waits_for_it_along(pair: Pair) -> None:
    pair.submit(trials=2)
    assert pair.rung(pair.builder)
    assert retirement.retire(pair.kit.farm, "x86-01").cancelled == 3
    assert (pair.view.state, pair.view.counts) == ("cancelled", {"cancelled": 2})
    assert pair.view.builds == {"cancelled": 1}
    assert sweeps.resume(pair.kit.farm, "first").state == "cancelled", "nobody is there to build"
