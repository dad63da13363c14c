"""Ranks without intervals, baselines by rule, and the caveat beside each claim."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contract.trial import Usage
from orchestrator.report import claims
from orchestrator.report.build import build_report
from orchestrator.report.format_comparison import best
from orchestrator.report.inputs import CellData, TrialData
from orchestrator.report.render import export, tables
from orchestrator.report.render.html import render_html
from orchestrator.report.schema import CellRow, SweepReport
from support.report_samples import cell, failed_trials, steady_trials, sweep, trial

BACKENDS = ("onnxruntime", "openvino", "tvm", "ncnn", "tflite", "pytorch")


def flat(*medians_ms: float) -> list[TrialData]:
    return [trial(i, np.full(100, int(ms * 1e6), np.int64)) for i, ms in enumerate(medians_ms)]


def rows_of(cells: Sequence[CellData], **changes: Any) -> dict[str, CellRow]:
    return {row.cell_id: row for row in build_report(sweep(cells, **changes)).rows}


def test_a_cell_without_an_interval_takes_no_rank_and_separates_nobody() -> None:
    tied = [cell("a", flat(50, 100)), cell("e", flat(60, 130), backend="tvm")]
    alone = cell("b", flat(80), backend="ncnn")
    before, after = rows_of(tied), rows_of([*tied, alone])
    assert [before[key].rank for key in "ae"] == [1, 1]
    assert [(after[key].rank, after[key].tied) for key in "ae"] == [(1, True), (1, True)]
    assert after["b"].rank is after["b"].rank_overall is None
    assert after["b"].rank_reason == "1 trial: no interval"
    assert not after["b"].pareto


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(20, 200), min_size=2, max_size=4), min_size=1, max_size=4),
    st.lists(st.integers(1, 300), min_size=1, max_size=2),
)
def test_cells_of_one_trial_change_no_rank(several: list[list[int]], single: list[int]) -> None:
    tested = [
        cell(f"c{i}", flat(*medians), backend=BACKENDS[i]) for i, medians in enumerate(several)
    ]
    alone = [cell(f"s{i}", flat(ms), backend=BACKENDS[-1 - i]) for i, ms in enumerate(single)]
    before, after = rows_of(tested), rows_of([*tested, *alone])
    for key, row in before.items():
        assert (after[key].rank, after[key].tied) == (row.rank, row.tied)
        assert (after[key].rank_overall, after[key].pareto) == (row.rank_overall, row.pareto)


def test_without_any_interval_nothing_is_called_the_fastest() -> None:
    report = build_report(sweep([cell("a", flat(3)), cell("b", flat(5), backend="tvm")]))
    assert report.groups[0].winner is None
    text = "resnet18: no configuration may be recommended: 1 trial: no interval."
    assert claims.whole_claim(report, report.groups[0]) == text
    assert text in tables.markdown(report)
    assert "No configuration may be recommended: 1 trial: no interval." in render_html(report, {})


def test_one_trial_is_said_only_of_what_has_one() -> None:
    rows = rows_of([cell("base", flat(6)), cell("five", steady_trials(3.0), backend="tvm")])
    found = rows["five"].speed_up
    assert found is not None
    assert found.estimate.reason.startswith("its baseline, onnxruntime fp32 on board-a, has 1 tri")
    rows = rows_of([cell("base", steady_trials(6.0)), cell("one", flat(3), backend="tvm")])
    found = rows["one"].speed_up
    assert found is not None
    assert found.estimate.reason == "1 trial: no interval"


MATRIX = [
    cell(f"{backend}-{precision}-{threads}", steady_trials(3.0, 2), backend=backend,
         precision=precision, threads=threads)
    for backend in ("onnxruntime", "openvino")
    for precision in ("fp32", "int8")
    for threads in (1, 4)
]  # fmt: skip


def against(row: CellRow) -> str:
    return row.speed_up.baseline_cell if row.speed_up else row.speed_up_reason


@pytest.mark.parametrize(
    ("wanted", "of", "expected"),
    [
        ({"backend": "onnxruntime"}, "openvino-int8-4", "onnxruntime-int8-4"),
        ({"backend": "onnxruntime"}, "openvino-fp32-1", "onnxruntime-fp32-1"),
        ({"precision": "fp32"}, "openvino-int8-4", "openvino-fp32-4"),
        ({"threads": "1"}, "openvino-int8-4", "openvino-int8-1"),
        (
            {"backend": "onnxruntime", "precision": "fp32", "threads": "1"},
            "openvino-int8-4",
            "onnxruntime-fp32-1",
        ),
        (
            {"backend": "tvm"},
            "openvino-int8-4",
            "no cell of this model and workload on board-a has backend tvm",
        ),
    ],
)
def test_keys_that_a_baseline_does_not_name_are_the_rows_own(
    wanted: dict[str, str], of: str, expected: str
) -> None:
    assert against(rows_of(MATRIX, baseline=wanted)[of]) == expected


def test_a_row_without_its_like_says_which_key_to_name() -> None:
    cells = [cell("base"), cell("q", backend="openvino", precision="int8", threads=4)]
    reason = rows_of(cells, baseline={"backend": "onnxruntime"})["q"].speed_up_reason
    assert reason == (
        "the baseline's cells have precision fp32, this one int8: "
        "name precision in `baseline` to compare them"
    )
    both = {"backend": "onnxruntime", "precision": "fp32"}
    assert "have threads 0, this one 4" in rows_of(cells, baseline=both)["q"].speed_up_reason


def test_several_baselines_are_none_and_the_keys_that_tell_them_apart_are_named() -> None:
    cells = [
        cell("old", version="1.30.0"),
        cell("new", version="1.31.1"),
        cell("other", backend="openvino", version="2026.4.1"),
    ]
    rows = rows_of(cells, baseline={"backend": "onnxruntime"})
    assert rows["other"].speed_up_reason == (
        "2 cells match the baseline and differ in version (1.30.0, 1.31.1): "
        "name version in `baseline`"
    )
    named = rows_of(cells, baseline={"backend": "onnxruntime", "version": "1.30"})
    assert [against(named[key]) for key in ("old", "new", "other")] == ["old"] * 3


def test_a_newer_default_does_not_drop_out_silently() -> None:
    cells = [
        cell("a", version="1.30.0"),
        cell("b", version="1.31.1", device="nuc"),
        cell("c", version="2026.4.1", device="nuc", backend="openvino"),
    ]
    report = build_report(sweep(cells, baseline={"backend": "onnxruntime", "version": "1.30.0"}))
    reason = (
        "no cell of this model and workload on nuc has backend onnxruntime, version 1.30.0; "
        "onnxruntime is there as 1.31.1"
    )
    assert {report.row(key).speed_up_reason for key in "bc"} == {reason}
    [note] = [n for n in report.notes if "No speed-up" in n]
    assert note.endswith(f"on nuc and 1 more: {reason}.")
    read = {row["cell_id"]: row for row in csv.DictReader(io.StringIO(export.to_csv(report)))}
    assert read["c"]["speed_up_reason"] == reason
    assert read["a"]["speed_up_baseline"] == "onnxruntime 1.30.0 fp32 on board-a"


def test_a_baseline_that_failed_is_not_replaced_by_another() -> None:
    cells = [
        cell("base", failed_trials()),
        cell("int8", precision="int8"),
        cell("x", backend="openvino"),
    ]
    reason = rows_of(cells, baseline={"backend": "onnxruntime"})["x"].speed_up_reason
    assert reason == "its baseline, onnxruntime fp32 on board-a, has no figure: failed"


def test_an_option_can_be_named() -> None:
    cells = [
        cell("all", options={"graph_optimization": "all", "spin": True}),
        cell("off", options={"graph_optimization": "disable", "spin": True}),
        cell("x", backend="openvino"),
    ]
    unnamed = rows_of(cells, baseline={"backend": "onnxruntime"})["x"]
    assert "name graph_optimization in `baseline`" in unnamed.speed_up_reason
    wanted = {"graph_optimization": "all", "backend": "onnxruntime", "spin": "on"}
    assert against(rows_of(cells, baseline=wanted)["x"]) == "all"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, "baseline: none named in the sweep, so there are no speed-ups"),
        (
            {"backend": "onnxruntime"},
            "baseline: backend onnxruntime (onnxruntime 1.31.1, CPU, on board-a); not named, so as "
            "in each row: precision (fp32, int8), threads (1, 4)",
        ),
        (
            {"backend": "onnxruntime", "precision": "fp32", "threads": "4"},
            "baseline: backend onnxruntime, precision fp32, threads 4 (onnxruntime 1.31.1, CPU, "
            "on board-a)",
        ),
        ({"backend": "tvm"}, "baseline: backend tvm; no row could be compared with it"),
    ],
)
def test_each_output_states_the_baseline_and_its_defaults(
    wanted: dict[str, str], expected: str
) -> None:
    report = build_report(sweep(MATRIX, baseline=wanted))
    assert report.baseline_line == expected
    assert json.loads(export.to_json(report))["baseline_line"] == expected
    assert expected in tables.markdown(report).replace("\\_", "_")
    assert expected in render_html(report, {})
    assert str(tables.terminal_table(report)[0]) == expected


def interfered(median_ms: float, **changes: Any) -> list[TrialData]:
    busy = Usage(100.0, 10, 1000)
    return steady_trials(median_ms, usage=busy, **changes)


def outputs(report: SweepReport) -> dict[str, str]:
    return {
        "terminal": "\n".join(map(str, tables.terminal_table(report)[:4])),
        "markdown": tables.markdown(report),
        "html": render_html(report, {}),
        "json": export.to_json(report),
        "csv": export.to_csv(report),
    }


@pytest.mark.parametrize(
    ("fast", "says"),
    [
        (interfered(2.0), "5 of 5 trials interfered"),
        (
            [trial(i, np.full(20, 2_000_000), usage=None) for i in range(3)],
            "3 of 3 trials too short",
        ),
    ],
)
def test_a_claim_carries_its_caveat_everywhere(fast: list[TrialData], says: str) -> None:
    cells = [cell("slow"), cell("fast", fast, backend="openvino")]
    report = build_report(sweep(cells))
    winner = report.groups[0].winner
    assert winner is not None
    assert winner.cell_id == "fast"
    assert winner.caveats[0].startswith(says)
    for name, text in outputs(report).items():
        assert says in text, name
        assert name in ("json", "csv") or "rovisional" in text, name
    assert report.row("slow").caveats == ()


def test_a_claim_is_final_where_nothing_is_against_it() -> None:
    report = build_report(sweep([cell("slow"), cell("fast", steady_trials(2.0), backend="tvm")]))
    assert report.groups[0].winner is not None
    assert report.groups[0].winner.caveats == ()
    for name, text in outputs(report).items():
        assert "rovisional:" not in text, name


def test_the_baselines_and_the_sweeps_state_count_too() -> None:
    cells = [
        cell("base", interfered(6.0)),
        cell("fast", steady_trials(2.0), backend="openvino"),
        cell("later", [], backend="tvm", state_counts={"pending": 5}, planned_trials=5),
    ]
    report = build_report(sweep(cells))
    text = claims.whole_claim(report, report.groups[0])
    assert "Provisional: the baseline: 5 of 5 trials interfered" in text
    assert text.endswith("1 of 3 cells have no result yet.")


def test_the_best_format_needs_an_interval() -> None:
    single = build_report(sweep([cell("a", flat(3)), cell("b", flat(5), backend="tvm")]))
    assert best(single) is None
    mixed = build_report(sweep([cell("a", flat(3)), cell("b", steady_trials(5.0), backend="tvm")]))
    found = best(mixed)
    assert found is not None
    assert found[0].cell_id == "b"
