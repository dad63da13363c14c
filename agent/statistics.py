"""Order statistics of latency samples: intervals, sample counts, and when a trial has enough.

The interval is the order-statistic (binomial) one: of n independent samples, the number below the
true p-quantile is Binomial(n, p), so two order statistics bracket it without an assumption about
the distribution. Source: Hahn and Meeker, "Statistical Intervals", 1991, section 5.2.

The measured child checks its samples at a geometric schedule of counts that is fixed beforehand:
checking after every sample and stopping at the first good interval would make it look narrower than
it is. Samples of one process are autocorrelated, so in the child the interval only decides when to
stop; the controller computes the published ones, from fresh-process trials, with the same rules.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Callable, Tuple

import numpy as np

from agent.contract.trial import Scenario

CONFIDENCE = 0.95
"""Level of every interval."""
TAIL = (1.0 - CONFIDENCE) / 2.0
CLAIM_CONFIDENCE = 0.99
"""One-sided level at which a percentile may be claimed at all (``samples_needed``)."""
GROWTH = 1.25
NORMAL_FROM = 1000.0
Z_95 = 1.959963984540054

PRECISION = "precision"
MAX_DURATION = "max_duration"

Quantiles = Callable[[int, float], Tuple[int, int]]
"""(n, p) → the quantiles of Binomial(n, p) at ``TAIL`` and at 1 - ``TAIL``."""


@lru_cache(maxsize=64)
def samples_needed(percentile: float) -> int:
    """Smallest n that supports a claim on a percentile: p50 11, p90 64, p95 130, p99 662.

    With that many independent samples at least two lie above the true percentile with probability
    ``CLAIM_CONFIDENCE``: P[Binomial(n, 1 - p) <= 1] <= 1 %. With fewer, the estimate rests on a
    single largest value. Source: the early-stopping rule of MLPerf LoadGen with one discarded
    sample (binomial, one-sided).

    Raises:
        ValueError: ``percentile`` is not strictly between 0 and 100.
    """
    if not 0 < percentile < 100:
        raise ValueError("a percentile lies strictly between 0 and 100, found %s" % percentile)
    p = percentile / 100.0

    def risk(n: int) -> float:
        return p**n + n * (1.0 - p) * p ** (n - 1)

    high = 2
    while risk(high) > 1.0 - CLAIM_CONFIDENCE:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if risk(middle) <= 1.0 - CLAIM_CONFIDENCE else (middle, high)
    return high


def binomial_quantiles(n: int, p: float) -> Tuple[int, int]:
    """``Quantiles`` with NumPy alone, which is all that the measured child has.

    Exact up to a variance of ``NORMAL_FROM``, from there on by the normal approximation, which is
    off by at most one: the arrays of the exact sum would show in the child's own peak memory.
    """
    if n * p * (1.0 - p) >= NORMAL_FROM:
        reach = Z_95 * math.sqrt(n * p * (1.0 - p))
        return math.floor(n * p - reach), math.ceil(n * p + reach)
    k = np.arange(1, n + 1, dtype=np.float64)
    log_choose = np.concatenate(([0.0], np.cumsum(np.log(n - k + 1.0) - np.log(k))))
    ones = np.arange(n + 1)
    cumulative = np.cumsum(np.exp(log_choose + ones * math.log(p) + (n - ones) * math.log1p(-p)))
    low = int(np.searchsorted(cumulative, TAIL, side="right"))
    high = int(np.searchsorted(cumulative, 1.0 - TAIL, side="left"))
    return low, high


def interval_ranks(
    count: int, percentile: float, quantiles: Quantiles = binomial_quantiles
) -> tuple[int, int] | None:
    """0-based ranks (low, high) of the two order statistics that bracket the percentile.

    At most ``TAIL`` lies outside on either side, so the coverage is at least ``CONFIDENCE`` for
    independent samples. ``None`` where ``count`` samples have no such ranks.
    """
    # P(X_(l) > quantile) = P(Binomial <= l - 1), with 1-based order statistics X_(l).
    low, below = quantiles(count, percentile / 100.0)
    high = below + 1
    return (low - 1, high - 1) if low >= 1 and high <= count else None


def relative_half_width(samples: Any, percentile: float) -> float:
    """Half the interval of the percentile over its estimate; infinite where there is none."""
    ranks = interval_ranks(len(samples), percentile)
    if ranks is None:
        return math.inf
    middle = min(len(samples) - 1, math.ceil(len(samples) * percentile / 100.0) - 1)
    low, estimate, high = np.sort(samples)[[ranks[0], max(0, middle), ranks[1]]]
    return math.inf if estimate <= 0 else float(high - low) / 2.0 / float(estimate)


def drifts(samples: Any, target_relative_ci: float) -> bool:
    """Whether the medians of the first and last third differ by over twice the wanted half-width.

    Medians, so that a single stall is no drift; twice, because two intervals of that half-width
    that just touch lie that far apart.
    """
    third = len(samples) // 3
    if third == 0:
        return True
    first, last = float(np.median(samples[:third])), float(np.median(samples[-third:]))
    return abs(last - first) > 2.0 * target_relative_ci * min(first, last)


def first_check(scenario: Scenario) -> int:
    """The first sample count at which the samples are checked."""
    return max(scenario.min_samples, samples_needed(scenario.percentile))


def next_check(count: int) -> int:
    """The next sample count of the schedule after ``count``."""
    return max(count + 1, math.ceil(count * GROWTH))


def reason_to_stop(samples: Any, elapsed_s: float, scenario: Scenario) -> str | None:
    """``precision``, ``max_duration``, or ``None`` to go on. ``samples``: in order of time."""
    enough = (
        elapsed_s >= scenario.min_duration_s
        and len(samples) >= first_check(scenario)
        and not drifts(samples, scenario.target_relative_ci)
        and relative_half_width(samples, scenario.percentile) <= scenario.target_relative_ci
    )
    if enough:
        return PRECISION
    return MAX_DURATION if elapsed_s >= scenario.max_duration_s else None
