"""The statistics against NumPy and SciPy, and the properties that they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as sps

from orchestrator.report.statistics import stats

latency = st.floats(min_value=1e-3, max_value=1e4, allow_nan=False)
series = st.lists(latency, min_size=2, max_size=40)
scale = st.floats(min_value=1e-3, max_value=1e3)


@pytest.mark.parametrize(("q", "n"), [(50, 11), (90, 64), (95, 130), (99, 662)])
def test_samples_needed_are_the_published_numbers(q: float, n: int) -> None:
    assert stats.samples_needed(q) == n
    assert sps.binom.cdf(1, n, 1 - q / 100) <= 0.01 < sps.binom.cdf(1, n - 1, 1 - q / 100)


@pytest.mark.parametrize("q", [0, 100, -1, 120])
def test_only_inner_percentiles_have_a_size(q: float) -> None:
    with pytest.raises(ValueError, match="strictly between"):
        stats.samples_needed(q)


@given(series, st.floats(min_value=0, max_value=100))
def test_percentile_is_numpys(values: list[float], q: float) -> None:
    assert stats.percentile(values, q) == pytest.approx(np.percentile(values, q))


@pytest.mark.parametrize("bad", [[], [1.0, 0.0], [1.0, -2.0], [math.nan, 1.0], [math.inf]])
def test_broken_clocks_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match=r"samples"):
        stats.percentile(bad, 50)


@given(series, scale)
def test_scaling_the_samples_scales_every_estimate(values: list[float], factor: float) -> None:
    scaled = [v * factor for v in values]
    for one, other in (
        (stats.geometric(values), stats.geometric(scaled)),
        (stats.percentile_interval(values, 50), stats.percentile_interval(scaled, 50)),
    ):
        assert other.value == pytest.approx(one.value * factor, rel=1e-6)
        if one.low is not None and one.high is not None:
            assert other.low == pytest.approx(one.low * factor, rel=1e-6)
            assert other.high == pytest.approx(one.high * factor, rel=1e-6)
    assert stats.mad(scaled) == pytest.approx(stats.mad(values) * factor, rel=1e-6, abs=1e-9)
    assert stats.coefficient_of_variation(scaled) == pytest.approx(
        stats.coefficient_of_variation(values), rel=1e-5, abs=1e-9
    )


@given(series)
def test_intervals_hold_their_point(values: list[float]) -> None:
    for found in (stats.geometric(values), stats.rate(values, values[::-1])):
        assert found.low is not None
        assert found.high is not None
        assert found.low * (1 - 1e-12) <= found.value <= found.high * (1 + 1e-12)
    within = stats.percentile_interval(values, 50)
    if within.low is not None and within.high is not None:
        assert within.low <= within.value <= within.high


@given(series, st.randoms())
def test_the_order_of_trials_does_not_matter(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert stats.geometric(shuffled).value == pytest.approx(stats.geometric(values).value)
    assert stats.geometric(shuffled).low == pytest.approx(stats.geometric(values).low)


def test_geometric_interval_is_scipys_t_on_logs() -> None:
    values = [3.0, 3.1, 2.95, 3.3, 3.05]
    logs = np.log(values)
    low, high = sps.t.interval(0.95, 4, loc=logs.mean(), scale=sps.sem(logs))
    found = stats.geometric(values)
    assert found.value == pytest.approx(sps.gmean(values))
    assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)))


def test_one_trial_has_no_interval() -> None:
    single = stats.geometric([3.0])
    assert (single.low, single.high, single.n) == (None, None, 1)
    assert single.value == pytest.approx(3.0)
    assert stats.rate([100], [2.0]) == stats.Interval(50.0, None, None, 1)
    assert stats.ratio([3.0], [1.5, 1.6]).low is None


def test_rate_is_total_over_total_not_the_mean_of_rates() -> None:
    found = stats.rate([100, 100], [1.0, 9.0])
    assert found.value == pytest.approx(200 / 10)
    assert found.value != pytest.approx((100 / 1 + 100 / 9) / 2)


def test_rates_and_durations_must_pair_up() -> None:
    with pytest.raises(ValueError, match="2 counts but 1"):
        stats.rate([1, 2], [1.0])


def test_ratio_is_scipys_welch_on_logs() -> None:
    base, cell = [3.0, 3.2, 3.1, 2.9, 3.05], [1.5, 1.55, 1.48, 1.6]
    found = stats.ratio(base, cell)
    known = sps.ttest_ind(np.log(base), np.log(cell), equal_var=False)
    interval = known.confidence_interval(0.95)
    assert found.p_value == pytest.approx(known.pvalue)
    assert (found.low, found.high) == pytest.approx(
        (math.exp(interval.low), math.exp(interval.high))
    )
    assert found.shown


def test_identical_arms_show_no_difference() -> None:
    same = stats.ratio([3.0, 3.0, 3.0], [3.0, 3.0, 3.0])
    assert (same.value, same.p_value, same.shown) == (1.0, 1.0, False)


@given(series, series)
def test_the_inverse_comparison_is_the_inverse_ratio(a: list[float], b: list[float]) -> None:
    forth, back = stats.ratio(a, b), stats.ratio(b, a)
    assert forth.value == pytest.approx(1 / back.value, rel=1e-9)
    assert forth.shown == back.shown or forth.p_value == pytest.approx(0.05, abs=1e-6)


def test_same_arms_are_covered_95_times_in_100() -> None:
    """A seeded A/A simulation: two arms of five trials each from one population."""
    rng = np.random.default_rng(7)
    runs, covered_mean, covered_ratio = 2000, 0, 0
    for _ in range(runs):
        a, b = np.exp(rng.normal(1.0, 0.05, (2, 5)))
        mean = stats.geometric(a)
        assert mean.low is not None
        assert mean.high is not None
        covered_mean += mean.low <= math.e <= mean.high
        covered_ratio += not stats.ratio(a, b).shown
    # Two standard errors of a share of 0.95 over 2000 runs are 0.01; Welch is a little cautious.
    assert covered_mean / runs == pytest.approx(0.95, abs=0.015)
    assert 0.94 <= covered_ratio / runs <= 0.98


def test_order_statistic_intervals_cover() -> None:
    rng = np.random.default_rng(3)
    for q, n in ((50.0, 100), (90.0, 200)):
        truth = sps.expon.ppf(q / 100) + 1
        hits = 0
        for _ in range(1000):
            found = stats.percentile_interval(rng.exponential(size=n) + 1, q)
            assert found.low is not None
            assert found.high is not None
            hits += found.low <= truth <= found.high
        assert hits / 1000 >= 0.935


def test_a_percentile_beyond_the_samples_has_no_interval() -> None:
    assert stats.percentile_interval(np.arange(1, 50), 99).low is None


def test_effective_sample_size_of_independent_and_correlated_series() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(100, 1, 20_000)
    assert stats.effective_sample_size(noise) == pytest.approx(20_000, rel=0.1)
    rho, correlated = 0.9, np.empty(20_000)
    correlated[0] = 0.0
    for i in range(1, len(correlated)):
        correlated[i] = rho * correlated[i - 1] + rng.normal()
    expected = 20_000 * (1 - rho) / (1 + rho)  # of a first-order autoregression
    assert stats.effective_sample_size(correlated + 100) == pytest.approx(expected, rel=0.2)


@given(st.lists(latency, min_size=1, max_size=200))
def test_effective_sample_size_is_within_the_sample(values: list[float]) -> None:
    assert 0 < stats.effective_sample_size(values) <= len(values)


def test_mad_is_scipys() -> None:
    values = np.random.default_rng(1).exponential(size=101) + 1
    assert stats.mad(values) == pytest.approx(sps.median_abs_deviation(values))


def test_adjusted_p_values_never_shrink() -> None:
    p_values = [0.001, 0.02, 0.04, 0.9]
    adjusted = stats.adjust(p_values)
    assert all(q >= p for p, q in zip(p_values, adjusted, strict=True))
    assert stats.adjust([]) == []
