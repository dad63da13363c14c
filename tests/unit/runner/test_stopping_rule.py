"""Stopping rule: known minimal counts, ranks against the exact binomial, and each condition."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import statistics
from agent.contract.trial import Scenario

SCENARIO = Scenario(min_duration_s=1.0, max_duration_s=10.0, min_samples=100)


@pytest.mark.parametrize(("percentile", "count"), [(50, 11), (90, 64), (95, 130), (99, 662)])
def test_a_percentile_is_claimable_at_the_published_counts(percentile: float, count: int) -> None:
    assert statistics.samples_needed(percentile) == count


def test_first_check_waits_for_both_the_wish_and_the_claim() -> None:
    assert statistics.first_check(Scenario(min_samples=100, percentile=50.0)) == 100
    assert statistics.first_check(Scenario(min_samples=100, percentile=99.0)) == 662


def test_the_schedule_is_geometric_and_always_advances() -> None:
    assert statistics.next_check(100) == 125
    assert statistics.next_check(1) == 2


def binomial_cdf(k: int, n: int, p: Fraction) -> Fraction:
    return sum((math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)), Fraction(0))


@pytest.mark.parametrize("percentile", [50, 90, 95])
@pytest.mark.parametrize("count", [20, 64, 101, 200])
def test_ranks_leave_at_most_the_tail_on_each_side(count: int, percentile: int) -> None:
    p, tail = Fraction(percentile, 100), Fraction(25, 1000)
    ranks = statistics.interval_ranks(count, float(percentile))
    low_exists = binomial_cdf(0, count, p) <= tail
    high_exists = 1 - binomial_cdf(count - 1, count, p) <= tail
    if ranks is None:
        assert not (low_exists and high_exists)
        return
    low, high = ranks[0] + 1, ranks[1] + 1  # 1-based
    assert binomial_cdf(low - 1, count, p) <= tail < binomial_cdf(low, count, p)
    assert 1 - binomial_cdf(high - 1, count, p) <= tail < 1 - binomial_cdf(high - 2, count, p)


def test_the_normal_limit_continues_the_exact_ranks() -> None:
    before, after = statistics.interval_ranks(3_999, 50.0), statistics.interval_ranks(4_001, 50.0)
    assert before is not None
    assert after is not None
    assert abs(after[0] - before[0]) <= 3
    assert abs(after[1] - before[1]) <= 3


@given(st.integers(2, 3_000), st.floats(1.0, 99.0))
def test_ranks_lie_in_range_and_in_order(count: int, percentile: float) -> None:
    ranks = statistics.interval_ranks(count, percentile)
    if ranks is not None:
        assert 0 <= ranks[0] < ranks[1] < count


def test_constant_samples_have_no_width_and_few_samples_no_interval() -> None:
    assert statistics.relative_half_width(np.full(100, 7), 50.0) == 0.0
    assert statistics.relative_half_width(np.full(3, 7), 50.0) == math.inf


def test_the_interval_covers_the_true_median_as_often_as_it_says() -> None:
    random = np.random.RandomState(0)
    ranks = statistics.interval_ranks(101, 50.0)
    assert ranks is not None
    draws = np.sort(random.standard_exponential((4_000, 101)), axis=1)
    covered = (draws[:, ranks[0]] <= math.log(2)) & (math.log(2) <= draws[:, ranks[1]])
    assert 0.945 <= covered.mean() <= 0.98


def test_steady_samples_stop_by_precision() -> None:
    assert statistics.reason_to_stop(np.full(200, 1_000_000), 2.0, SCENARIO) == "precision"


@pytest.mark.parametrize("count", [2, 99])
def test_too_few_samples_go_on(count: int) -> None:
    assert statistics.reason_to_stop(np.full(count, 1_000_000), 2.0, SCENARIO) is None


def test_the_minimum_time_is_kept() -> None:
    assert statistics.reason_to_stop(np.full(200, 1_000_000), 0.99, SCENARIO) is None


def test_a_wide_interval_goes_on_and_the_maximum_time_caps_it() -> None:
    samples = np.random.RandomState(1).randint(500_000, 1_500_000, 200)
    assert statistics.reason_to_stop(samples, 9.9, SCENARIO) is None
    assert statistics.reason_to_stop(samples, 10.0, SCENARIO) == "max_duration"


def test_drift_goes_on_even_where_the_interval_is_narrow() -> None:
    samples = np.concatenate([np.full(400, 1_000_000), np.full(200, 1_030_000)])
    assert statistics.relative_half_width(samples, 50.0) <= 0.01
    assert statistics.drifts(samples, 0.01)
    assert statistics.reason_to_stop(samples, 5.0, SCENARIO) is None


def test_a_single_stall_is_no_drift() -> None:
    samples = np.full(300, 1_000_000)
    samples[-1] = 90_000_000
    assert not statistics.drifts(samples, 0.01)
