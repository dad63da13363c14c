"""Trust verdicts on synthetic series and readings."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from ruptures import Pelt
from ruptures.costs import CostNormal

from agent.contract.trial import Fingerprint, Usage
from orchestrator.report.statistics import change_points, stability
from orchestrator.report.statistics.stability import StabilityVerdict, judge_cell, judge_trial
from support.report_samples import drifting, latencies, result


@pytest.mark.parametrize("shape", ["flat", "warm_up", "slow_down", "no_steady_state"])
@pytest.mark.parametrize("seed", range(5))
def test_each_shape_is_recognised(shape: str, seed: int) -> None:
    assert stability.segments(drifting(shape, seed=seed)).shape == shape


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e4])
def test_the_class_does_not_depend_on_the_unit(factor: float) -> None:
    assert stability.segments(drifting("slow_down") * factor).shape == "slow_down"


def test_flat_series_are_rarely_called_anything_else() -> None:
    shapes = [stability.segments(latencies(3.0, 400, seed)).shape for seed in range(60)]
    assert shapes.count("flat") >= 59


def test_single_interrupted_inferences_are_no_change_of_state() -> None:
    samples = latencies(3.0, 4000)
    samples[::97] *= 20
    assert stability.segments(samples).shape == "flat"


def test_a_drift_smaller_than_the_threshold_is_flat() -> None:
    samples = latencies(3.0, 2000, spread=0.001).astype(float)
    samples[1000:] *= 1.01
    assert stability.segments(samples).shape == "flat"
    samples[1000:] *= 1.04
    assert stability.segments(samples).shape == "slow_down"


def test_a_slow_start_counts_unless_it_is_over_at_once() -> None:
    samples = latencies(3.0, 2000).astype(float)
    samples[:80] *= 1.5
    assert stability.segments(samples).shape == "flat"
    samples[:300] *= 1.5
    assert stability.segments(samples).shape == "warm_up"
    fast_start = latencies(3.0, 2000).astype(float)
    fast_start[:80] /= 1.5
    assert stability.segments(fast_start).shape == "slow_down"


def test_constant_and_coarse_samples_are_flat() -> None:
    assert stability.segments(np.full(1000, 5_000)).shape == "flat"
    coarse = np.round(latencies(0.01, 3000, spread=0.01) / 100) * 100
    assert stability.segments(coarse).shape == "flat"


def test_blocks_are_bounded_medians() -> None:
    reduced = change_points.blocks(np.arange(1_000_003))
    assert len(reduced) == change_points.MAX_BLOCKS
    assert np.all(np.diff(reduced) > 0)
    assert np.array_equal(change_points.blocks([3, 1, 2]), [3, 1, 2])


@pytest.mark.parametrize("seed", range(4))
def test_change_points_are_those_of_the_library_cost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    series = np.concatenate([rng.normal(m, s, 100) for m, s in ((5, 1), (9, 1), (9, 3), (4, 1))])
    cost = CostNormal(add_small_diag=False)
    known = Pelt(custom_cost=cost, min_size=change_points.GRID, jump=change_points.GRID)
    scaled = ((series - series.mean()) / series.std()).reshape(-1, 1)
    assert change_points.change_points(series) == known.fit(scaled).predict(
        pen=change_points.PENALTY * np.log(len(series))
    )
    assert all(a < b for a, b in pairwise(change_points.change_points(series)))


@pytest.mark.parametrize(
    ("shape", "trust"),
    [
        ("flat", "steady"),
        ("warm_up", "warming_up"),
        ("slow_down", "slowing_down"),
        ("no_steady_state", "no_steady_state"),
    ],
)
def test_a_trial_is_judged_by_its_shape(shape: str, trust: str) -> None:
    samples = drifting(shape)
    verdict = judge_trial(result(samples[None]), samples)
    assert verdict.trust == trust
    assert bool(verdict.reasons) == (trust != "steady")


def test_too_few_samples_and_a_missed_target_are_too_short() -> None:
    few = latencies(3.0, stability.MIN_SAMPLES - 1)
    assert judge_trial(result(few[None]), few).trust == "too_short"
    samples = latencies(3.0)
    made = result(samples[None])
    assert made.samples is not None
    capped = replace(made, samples=replace(made.samples, stopped_by="max_duration"))
    verdict = judge_trial(capped, samples)
    assert verdict.trust == "too_short"
    assert "time limit" in verdict.reasons[0]


def test_pressure_and_involuntary_switches_are_interference() -> None:
    samples = latencies(3.0)
    pressed = result(
        samples[None],
        fingerprint_before=Fingerprint(0, pressure_cpu_some_us=100),
        fingerprint_after=Fingerprint(int(10e9), pressure_cpu_some_us=2_000_100),
    )
    verdict = judge_trial(pressed, samples)
    assert verdict.trust == "interfered"
    assert "20%" in verdict.reasons[0]
    switched = result(samples[None], usage=Usage(100.0, 0, 5000))
    assert judge_trial(switched, samples).trust == "interfered"


def test_unreadable_pressure_is_no_verdict() -> None:
    assert stability.pressure_share(None, None) is None
    assert stability.pressure_share(Fingerprint(0), Fingerprint(10)) is None
    backwards = Fingerprint(0, pressure_cpu_some_us=9), Fingerprint(1000, pressure_cpu_some_us=1)
    assert stability.pressure_share(*backwards) is None


def test_throttling_is_named_with_its_evidence() -> None:
    samples = drifting("slow_down")
    hot = result(
        samples[None],
        fingerprint_before=Fingerprint(0, cpu_mhz=1800.0, temperature_c=50.0),
        fingerprint_after=Fingerprint(int(1e9), cpu_mhz=1200.0, temperature_c=81.0),
    )
    text = judge_trial(hot, samples).reasons[0]
    assert "from 1800 to 1200 MHz" in text
    assert "31 °C warmer" in text


def test_a_cell_is_steady_only_where_every_trial_is() -> None:
    good, slow, noisy = (
        StabilityVerdict("steady"),
        StabilityVerdict("slowing_down", ("rose",)),
        StabilityVerdict("interfered", ("waited",)),
    )
    assert judge_cell([good, good]).trust == "steady"
    assert judge_cell([good, slow, slow, noisy]).trust == "slowing_down"
    tied = judge_cell([good, slow, noisy])
    assert tied.trust == "interfered"
    assert tied.reasons[0] == "1 of 3 trials interfered: waited"
    assert judge_cell([]).trust == "unknown"


def test_a_trial_without_samples_is_unknown() -> None:
    assert judge_trial(result(None), None).trust == "unknown"
