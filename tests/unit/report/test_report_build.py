"""From raw samples to rows: figures, statuses, ranks, speed-ups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agent.contract.trial import Accuracy, Clock, Failure, Fingerprint, Phases, Scenario
from orchestrator.report.build import build_report
from orchestrator.report.inputs import CellData, TrialData
from orchestrator.report.schema import CellRow, SweepReport
from orchestrator.report.statistics.pareto import front
from support.report_samples import (
    BAD,
    GOOD,
    cell,
    failed_trials,
    farm,
    latencies,
    steady_trials,
    sweep,
    trial,
)


@pytest.fixture(scope="module")
def report() -> SweepReport:
    return build_report(farm())


def row_of(made: CellData) -> CellRow:
    return build_report(sweep([made])).rows[0]


def by_id(cells: Sequence[CellData], **changes: Any) -> dict[str, CellRow]:
    return {row.cell_id: row for row in build_report(sweep(cells, **changes)).rows}


def test_p50_is_the_geometric_mean_of_the_trials_medians() -> None:
    trials = steady_trials(3.0, count=4)
    row = row_of(cell(trials=trials))
    medians = [float(np.median(t.samples_ns[0])) / 1e6 for t in trials if t.samples_ns is not None]
    assert row.p50_ms.value == pytest.approx(np.exp(np.mean(np.log(medians))), rel=1e-6)
    assert row.p50_ms.n == 4
    assert row.p50_ms.low is not None
    assert row.p50_ms.high is not None
    assert row.p50_ms.low < row.p50_ms.value < row.p50_ms.high  # type: ignore[operator]
    assert row.samples == 4 * 800


def test_one_trial_says_that_it_has_no_interval() -> None:
    row = row_of(cell(trials=steady_trials(3.0, count=1)))
    assert row.p50_ms.low is None
    assert row.p50_ms.reason == "1 trial: no interval"


def test_percentiles_without_enough_samples_are_absent_with_the_reason() -> None:
    row = row_of(cell(trials=[trial(i, latencies(3.0, 100, i)) for i in range(5)]))
    assert row.p90_ms.value is not None
    assert row.p99_ms.value is None
    assert row.p99_ms.reason == (
        "p99 needs 662 samples in every trial, trial 0 has 100 (5 of 5 trials have fewer); "
        "set scenario.min_samples to 662"
    )
    assert row.absent["p99_ms"] == row.p99_ms.reason


def test_means_of_calls_have_no_tail() -> None:
    trials = []
    for made in steady_trials(3.0):
        assert made.result.samples is not None
        batched = replace(made.result.samples, calls_per_sample=8)
        trials.append(replace(made, result=replace(made.result, samples=batched)))
    row = row_of(cell(trials=trials))
    assert row.p50_ms.value is not None
    assert row.p90_ms.value is None
    assert "mean of several calls" in row.p90_ms.reason


def test_throughput_counts_the_batch_over_the_wall_time() -> None:
    trials = steady_trials(3.0, count=3)
    made = []
    for each in trials:
        assert each.result.samples is not None
        samples = replace(each.result.samples, batch_size=4, wall_s=2.0)
        made.append(replace(each, result=replace(each.result, samples=samples)))
    row = row_of(cell(trials=made, batch_size=4))
    assert row.inferences_per_second.value == pytest.approx(3 * 800 * 4 / 6.0)


def test_no_digits_finer_than_the_clock() -> None:
    coarse = Clock("perf_counter_ns", 41_667, 60.0)  # a 24 kHz counter
    row = row_of(cell(trials=steady_trials(3.0, clock=coarse)))
    assert row.p50_ms.decimals == 1
    for value in (
        row.p50_ms.value,
        row.p50_ms.low,
        row.min_ms,
        row.stdev_ms,
        row.trials[0].mean_ms,
    ):
        assert value == round(value or 0.0, 1)


def test_the_runtimes_own_latency_is_a_second_series() -> None:
    pairs = [np.stack([latencies(3.0, 800, i), latencies(2.5, 800, i)]) for i in range(3)]
    row = row_of(cell(trials=[trial(i, pair) for i, pair in enumerate(pairs)]))
    assert row.runtime_p50_ms.value == pytest.approx(2.5, rel=0.02)
    assert "no latency of its own" in row_of(cell()).runtime_p50_ms.reason


def test_overhead_is_what_is_left_of_the_total() -> None:
    phases = Phases(1.0, 0.0, 0.5, 0.25, 0.25, 500.0, 0.5, 4.0, 0.1, 0.0, 7.0, 9.0)
    row = row_of(cell(trials=steady_trials(3.0, phases=phases)))
    assert row.overhead_s == pytest.approx(9.0 - 0.5 - 0.5 - 0.5 - 0.5 - 4.0)
    unknown = row_of(cell(trials=steady_trials(3.0, phases=Phases())))
    assert unknown.overhead_s is None
    assert unknown.load_cold_ms.reason == "not measured"


def broken(status: str) -> list[TrialData]:
    failure = Failure("convert", "unsupported_operator", "no NonMaxSuppression")
    return failed_trials(2, status=status, failure=failure)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "ok"),
        ({"planned_trials": 7}, "partial"),
        ({"trials": steady_trials(3.0, fidelity=BAD)}, "failed_fidelity"),
        (
            {"trials": steady_trials(3.0, accuracy=Accuracy(0.4, 500, 0.7, False))},
            "failed_accuracy",
        ),
        ({"trials": broken("unsupported")}, "unsupported"),
        ({"trials": broken("invalid")}, "invalid"),
        ({"trials": broken("failed")}, "failed"),
        ({"trials": [], "state_counts": {"cancelled": 5}}, "cancelled"),
        ({"trials": [], "state_counts": {"failed": 5}}, "failed"),
        ({"trials": [], "state_counts": {"pending": 5}}, "pending"),
        ({"trials": [], "skip_reason": "no device has that target"}, "skipped"),
        ({"trials": [trial(0, None)]}, "invalid"),
        ({"trials": [trial(0, np.zeros(800, np.int64))]}, "invalid"),
    ],
)
def test_status(changes: dict[str, Any], status: str) -> None:
    row = row_of(cell(**changes))
    assert row.status == status
    assert (row.rank is not None) == (status == "ok")
    assert bool(row.rank_reason) == (status != "ok")


def test_failures_keep_their_stage_and_log() -> None:
    row = row_of(cell(trials=failed_trials()))
    assert row.failure is not None
    assert (row.failure.stage, row.failure.kind) == ("load", "crash")
    assert row.failure.log_tail == "Segmentation fault"
    assert row.p50_ms.value is None


@pytest.mark.parametrize(
    "wrong",
    [{"fidelity": BAD}, {"fidelity": None}, {"accuracy": Accuracy(0.4, 500, 0.7, False)}],
)
def test_fast_but_wrong_never_wins(wrong: dict[str, Any]) -> None:
    rows = by_id(
        [
            cell("right", steady_trials(9.0)),
            cell("wrong", steady_trials(1.0, **wrong), backend="tvm"),
        ]
    )
    assert rows["right"].rank == rows["right"].rank_overall == 1
    assert rows["wrong"].rank is None
    assert rows["wrong"].rank_overall is None
    assert not rows["wrong"].pareto


def test_one_failing_trial_fails_the_cell() -> None:
    trials = steady_trials(3.0)
    trials[2] = replace(trials[2], result=replace(trials[2].result, fidelity=BAD))
    assert row_of(cell(trials=trials)).status == "failed_fidelity"
    assert row_of(cell(trials=steady_trials(3.0, fidelity=GOOD))).fidelity is not None


def test_a_cosine_that_failed_does_not_read_as_one() -> None:
    near = replace(BAD, cosine=1 - 9.3e-6, max_abs=0.25)
    note = row_of(cell(trials=steady_trials(3.0, fidelity=near))).status_note
    assert "cosine 0.9999907, largest difference 0.25" in note
    scaled = replace(BAD, cosine=1.0, max_abs=8.0)
    note = row_of(cell(trials=steady_trials(3.0, fidelity=scaled))).status_note
    assert "largest difference 8" in note


def test_ties_share_a_rank_and_single_trials_do_not_claim_one() -> None:
    rows = by_id(
        [
            cell("a", steady_trials(3.0, seed=1, between=0.02)),
            cell("b", steady_trials(3.01, seed=2, between=0.02), backend="openvino"),
            cell("c", steady_trials(6.0, seed=3), backend="tvm"),
        ]
    )
    assert (rows["a"].rank, rows["b"].rank, rows["c"].rank) == (1, 1, 3)
    assert rows["a"].tied
    assert rows["b"].tied
    assert not rows["c"].tied
    single = by_id(
        [cell("a", steady_trials(3.0, 1)), cell("b", steady_trials(3.1, 1), backend="tvm")]
    )
    assert {row.rank for row in single.values()} == {None}
    assert {row.rank_reason for row in single.values()} == {"1 trial: no interval"}


def test_ranks_are_per_device_and_overall() -> None:
    rows = by_id(
        [
            cell("slow", steady_trials(9.0, seed=1)),
            cell("fast", steady_trials(2.0, seed=2), device="nuc"),
            cell("other-model", steady_trials(1.0, seed=3), model="vgg16"),
            cell("batch", steady_trials(1.0, seed=4), batch_size=8),
        ]
    )
    assert (rows["slow"].rank, rows["slow"].rank_overall) == (1, 2)
    assert (rows["fast"].rank, rows["fast"].rank_overall) == (1, 1)
    assert rows["other-model"].rank_overall == rows["batch"].rank_overall == 1


def test_speed_up_over_the_named_baseline() -> None:
    rows = by_id(
        [
            cell("base", steady_trials(6.0, seed=1)),
            cell("twice", steady_trials(3.0, seed=2), backend="openvino"),
            cell("same", steady_trials(6.02, seed=3), backend="tvm"),
            cell("wrong", steady_trials(1.0, fidelity=BAD), precision="int8"),
        ]
    )
    assert rows["base"].speed_up is not None
    assert rows["base"].speed_up.verdict == "baseline"
    twice, same = rows["twice"].speed_up, rows["same"].speed_up
    assert twice is not None
    assert same is not None
    assert twice.verdict == "faster"
    assert twice.estimate.value == pytest.approx(2.0, rel=0.03)
    assert twice.baseline_cell == "base"
    assert same.verdict == "no_difference_shown"
    assert rows["wrong"].speed_up is None


def test_the_baseline_most_like_the_cell_is_taken() -> None:
    rows = by_id(
        [
            cell("one", steady_trials(9.0, seed=1), threads=1),
            cell("four", steady_trials(3.0, seed=2), threads=4),
            cell("int8-one", steady_trials(4.5, seed=3), threads=1, precision="int8"),
        ]
    )
    found = rows["int8-one"].speed_up
    assert found is not None
    assert found.baseline_cell == "one"


def test_another_device_is_a_baseline_only_by_name() -> None:
    cells = [
        cell("a", steady_trials(9.0, seed=1)),
        cell("b", steady_trials(3.0, seed=2), device="nuc"),
    ]
    other = by_id(cells)["b"].speed_up
    assert other is not None
    assert other.verdict == "baseline"
    named = by_id(cells, baseline={"device": "board-a"})["b"].speed_up
    assert named is not None
    assert named.baseline_cell == "a"


def test_labels_hold_what_varies_and_are_unique() -> None:
    rows = by_id(
        [
            cell("a", threads=1),
            cell("b", threads=4, options={"hint": "latency"}),
            cell("c", threads=4, options={"hint": "latency"}),
            cell("d", threads=0, calibration="random", precision="int8"),
        ]
    )
    assert rows["a"].label == "onnxruntime fp32 1 thread"
    assert "hint=latency" in rows["b"].label
    assert rows["b"].label != rows["c"].label
    assert "random calibration" in rows["d"].label


def test_workloads_are_told_apart() -> None:
    rows = by_id([cell("a"), cell("b", scenario=Scenario(kind="offline", concurrency=4))])
    assert rows["a"].workload == "single stream, batch 1"
    assert rows["b"].workload == "offline, batch 1, concurrency 4"


def test_the_order_of_cells_and_trials_does_not_matter(report: SweepReport) -> None:
    data = farm()
    shuffled = [replace(c, trials=list(reversed(c.trials))) for c in reversed(data.cells)]
    again = build_report(replace(data, cells=shuffled))
    assert {r.cell_id: r for r in again.rows} == {r.cell_id: r for r in report.rows}


def test_every_cell_is_in_exactly_one_group(report: SweepReport) -> None:
    grouped = [cell_id for group in report.groups for cell_id in group.cells]
    assert sorted(grouped) == sorted(row.cell_id for row in report.rows)
    assert all(not row.pareto or row.rank_overall for row in report.rows)


def test_front() -> None:
    assert front([(1, 5), (2, 2), (5, 1), (3, 3), (2, 2)]) == [True, True, True, False, True]
    assert front([]) == []


def test_a_board_that_does_not_tell_its_condition_is_named_with_what_is_missing() -> None:
    silent = Fingerprint(0, 0.5)
    told = Fingerprint(0, 0.5, 2400.0, "performance", 45.0, 0, 4000.0)
    cells = [
        cell("quiet", steady_trials(3.0, fingerprint_after=silent), device="vm"),
        cell("once", steady_trials(3.0, fingerprint_after=told), device="board"),
        cell("again", steady_trials(3.0, fingerprint_after=silent), device="board"),
    ]
    [note] = [n for n in build_report(sweep(cells)).notes if "could not be read" in n]
    assert note.startswith("vm: temperature, processor clock, processor pressure could not be read")
