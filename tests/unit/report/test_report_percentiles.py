"""A figure covers every trial of its cell or is absent: properties of percentiles over trials."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contract.trial import Failure, Phases
from orchestrator.report.build import build_report
from orchestrator.report.inputs import TrialData
from orchestrator.report.schema import CellRow
from orchestrator.report.statistics import estimates as est
from orchestrator.report.statistics.stats import samples_needed
from support.report_samples import cell, steady_trials, sweep, trial

QUANTILES = (50.0, 90.0, 99.0)
counts = st.sampled_from([1, 5, 10, 11, 63, 64, 200, 661, 662, 800])
"""Around the numbers of samples that p50, p90 and p99 need."""


@st.composite
def two_speeds(draw: st.DrawFn) -> list[TrialData]:
    """Trials of one cell whose speeds differ by up to a factor of 100 and whose numbers of samples
    do too, as under a time limit."""
    made = []
    for index in range(draw(st.integers(1, 5))):
        count = draw(counts)
        median_ns = draw(st.integers(10_000, 1_000_000))
        seed = draw(st.integers(0, 1000))
        spread = np.random.default_rng(seed).lognormal(0, draw(st.floats(0, 0.5)), count)
        made.append(trial(index, np.maximum(1, median_ns * spread).astype(np.int64)))
    return made


def usable(trials: list[TrialData]) -> list[est.MeasuredTrial]:
    return est.measured_trials(cell(trials=trials))


def length(made: TrialData) -> int:
    assert made.samples_ns is not None
    return int(made.samples_ns.shape[1])


@settings(max_examples=60, deadline=None)
@given(two_speeds())
def test_percentiles_rise_and_none_of_them_leaves_a_trial_out(trials: list[TrialData]) -> None:
    found = usable(trials)
    figures = {q: est.percentile_ms(found, q) for q in QUANTILES}
    shown = [f.value for f in figures.values() if f.value is not None]
    assert shown == sorted(shown), "p50 ≤ p90 ≤ p99"
    for q, figure in figures.items():
        enough = all(length(t) >= samples_needed(q) for t in trials)
        assert (figure.value is not None) == enough
        assert bool(figure.reason) == (not enough or len(trials) == 1)
        assert figure.n == (len(trials) if enough else 0)
        assert (figure.reason == est.ONE_TRIAL) == (enough and len(trials) == 1)
    medians = est.medians_ms(found)
    assert len(medians) in (0, len(trials)), "cells are compared by all of their trials"
    assert bool(medians) == (figures[50.0].value is not None)


@settings(max_examples=40, deadline=None)
@given(two_speeds(), st.integers(0, 4), st.integers(2, 50))
def test_a_slower_trial_never_makes_a_cell_look_faster(
    trials: list[TrialData], which: int, factor: int
) -> None:
    slow = trials[which % len(trials)]
    assert slow.samples_ns is not None
    slowed = [t if t is not slow else trial(t.index, slow.samples_ns[0] * factor) for t in trials]
    for q in QUANTILES:
        before, after = (est.percentile_ms(usable(made), q) for made in (trials, slowed))
        assert (before.value is None) == (after.value is None)
        if before.value is not None and after.value is not None:
            assert after.value >= before.value


def capped(median_ms: float, seconds: float, index: int) -> TrialData:
    """A trial that the time limit ended: the slower, the fewer samples."""
    count = int(seconds * 1000 / median_ms)
    made = trial(index, np.full(count, int(median_ms * 1e6), np.int64))
    assert made.result.samples is not None
    samples = replace(made.result.samples, stopped_by="max_duration")
    return replace(made, result=replace(made.result, samples=samples))


def row_of(trials: list[TrialData]) -> CellRow:
    return build_report(sweep([cell(trials=trials)])).rows[0]


def test_the_slow_trial_of_a_time_limit_counts() -> None:
    row = row_of([capped(3.0, 2.2, 0), capped(3.0, 2.2, 1), capped(3.6, 2.2, 2)])
    assert row.p50_ms.value == pytest.approx((3.0 * 3.0 * 3.6) ** (1 / 3), rel=1e-6)
    assert row.p50_ms.n == 3
    assert row.p99_ms.value is None
    assert row.p99_ms.reason == (
        "p99 needs 662 samples in every trial, trial 2 has 611; raise scenario.max_duration_s"
    )
    assert row.absent == {"p99_ms": row.p99_ms.reason, "runtime_p50_ms": row.runtime_p50_ms.reason}


def test_a_median_of_80_and_200_ms_is_not_80() -> None:
    cells = [
        cell("mixed", [capped(80.0, 1.5, 0), capped(200.0, 1.5, 1), capped(81.0, 1.5, 2)]),
        cell("even", steady_trials(100.0), backend="tvm"),
    ]
    rows = {row.cell_id: row for row in build_report(sweep(cells)).rows}
    mixed = rows["mixed"]
    assert mixed.p50_ms.value is None
    assert "trial 1 has 7; raise scenario.max_duration_s" in mixed.p50_ms.reason
    assert mixed.rank is None
    assert mixed.rank_reason == mixed.p50_ms.reason
    assert mixed.speed_up is None
    assert mixed.speed_up_reason == mixed.p50_ms.reason
    assert rows["even"].rank == 1


def without(made: TrialData, **phases: None) -> TrialData:
    changed = replace(made.result.phases, **phases)
    return replace(made, result=replace(made.result, phases=changed))


def test_every_figure_covers_all_trials_or_says_why_not() -> None:
    trials = steady_trials(3.0)
    trials[3] = without(trials[3], load_warm_s=None, total_s=None)
    trials[4] = replace(trials[4], result=replace(trials[4].result, memory=None, usage=None))
    row = row_of(trials)
    assert row.load_warm_ms.value is None, "the slowest trial has no second load"
    assert row.load_warm_ms.reason == row.absent["load_warm_ms"] == "not known of trial 3"
    assert row.overhead_s is None
    assert row.peak_rss_mib is None
    assert row.cpu_percent is None
    assert {"overhead_s", "peak_rss_mib", "cpu_percent"} < set(row.absent)
    assert row.load_cold_ms.n == 5
    nothing = [without(t, load_warm_s=None) for t in steady_trials(3.0)]
    assert row_of(nothing).load_warm_ms.reason == "not measured"


def test_the_runtimes_own_latency_is_that_of_every_trial() -> None:
    both = np.stack([np.full(800, 3_000_000), np.full(800, 2_500_000)])
    trials = [trial(0, both), trial(1, both), trial(2, both[:1])]
    found = row_of(trials).runtime_p50_ms
    assert (found.value, found.reason) == (
        None,
        "the runtime reports no latency of its own in trial 2",
    )


def test_a_trial_stopped_while_it_verified_has_figures_and_no_rank() -> None:
    failure = Failure("verify", "timeout", "limits.trial_s of 20 s ran out")
    trials = steady_trials(3.0, status="failed", failure=failure, fidelity=None)
    row = row_of(trials)
    assert row.p50_ms.n == 5
    assert row.status == "partial"
    assert row.status_note == "measured, but 5 of 5 trials could not be verified"
    assert row.failure is not None
    assert row.failure.kind == "timeout"
    assert row.rank is None
    assert "outputs were not verified" in row.caveats
    one = [*steady_trials(3.0, 4), replace(trials[4], index=4)]
    mixed = row_of(one)
    assert mixed.fidelity is None, "one of its trials was not verified"
    assert mixed.status_note == "measured, but trial 4 could not be verified"
    wrong = Failure("verify", "bad_output", "NaN")
    assert row_of(steady_trials(3.0, status="invalid", failure=wrong)).p50_ms.value is None
    early = Failure("measure", "timeout", "too slow")
    assert row_of(steady_trials(3.0, status="failed", failure=early)).status == "failed"


def test_no_phase_is_a_phase_of_no_trial() -> None:
    assert row_of(steady_trials(3.0, phases=Phases())).absent["import_s"] == "not measured"
