"""The order-statistic rules stand once: the report uses the child's, with exact quantiles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from agent import statistics
from orchestrator.report.statistics import stats


@pytest.mark.parametrize("percentile", [50, 90, 99])
@pytest.mark.parametrize("count", [5, 64, 700, 5_000])
def test_the_reports_interval_is_that_of_the_exact_ranks(count: int, percentile: int) -> None:
    samples = np.sort(np.random.default_rng(count).exponential(size=count) + 1.0)
    p, tail = percentile / 100, (1 - 0.95) / 2
    low, high = int(binom.ppf(tail, count, p)), int(binom.ppf(1 - tail, count, p)) + 1
    found = stats.percentile_interval(samples, percentile)
    if low < 1 or high > count:
        assert (found.low, found.high) == (None, None)
        return
    value = float(np.percentile(samples, percentile))
    assert found.low == min(value, float(samples[low - 1]))
    assert found.high == max(value, float(samples[high - 1]))


@pytest.mark.parametrize("percentile", [50, 90, 95, 99])
def test_the_childs_ranks_are_at_most_one_off_the_exact_ones(percentile: int) -> None:
    for count in (700, 3_999, 4_001, 20_000, 150_000):
        exact = statistics.interval_ranks(count, percentile, stats._binomial_quantiles)
        found = statistics.interval_ranks(count, percentile)
        assert exact is not None
        assert found is not None
        assert max(abs(a - b) for a, b in zip(exact, found, strict=True)) <= 1
