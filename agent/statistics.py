"""When a trial has enough samples: pure functions of the samples and the time.

The interval is the order-statistic (binomial) one: for n independent samples the number below the
true p-quantile is Binomial(n, p), so two order statistics bracket it without assuming any
distribution. Checks come at a fixed geometric schedule of sample counts, fixed beforehand, because
looking after every sample and stopping at the first good look would flatter the interval.
Samples of one process are autocorrelated: the controller recomputes intervals from fresh-process
runs; here the interval only decides when to stop.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from agent.contract.trial import Scenario

CONFIDENCE = 0.95
CLAIM_CONFIDENCE = 0.99
GROWTH = 1.25
NORMAL_FROM = 1000.0
Z_95 = 1.959963984540054

PRECISION = "precision"
MAX_DURATION = "max_duration"


def claimable_at(percentile: float) -> int:
    """Smallest n at which the percentile can be claimed at 99 % (one-sided binomial).

    The least n for which P(Binomial(n, 1 - p) <= 1) <= 1 %: with p50 11, p90 64, p95 130, p99 662.
    """
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


def first_check(scenario: Scenario) -> int:
    return max(scenario.min_samples, claimable_at(scenario.percentile))


def next_check(count: int) -> int:
    """The next sample count of the schedule after ``count``."""
    return max(count + 1, math.ceil(count * GROWTH))


def interval_ranks(count: int, percentile: float) -> tuple[int, int] | None:
    """0-based ranks (low, high) of the two order statistics that bracket the percentile at 95 %.

    ``None`` where ``count`` samples do not reach far enough to either side. Exact up to a variance
    of ``NORMAL_FROM``, from there on by the normal limit, whose ranks differ by at most one: the
    exact sum's arrays would otherwise show in the child's own peak memory.
    """
    p = percentile / 100.0
    if count * p * (1.0 - p) >= NORMAL_FROM:
        reach = Z_95 * math.sqrt(count * p * (1.0 - p))
        return math.floor(count * p - reach) - 1, math.ceil(count * p + reach)
    k = np.arange(1, count + 1, dtype=np.float64)
    log_choose = np.concatenate(([0.0], np.cumsum(np.log(count - k + 1.0) - np.log(k))))
    ones = np.arange(count + 1)
    cumulative = np.cumsum(
        np.exp(log_choose + ones * math.log(p) + (count - ones) * math.log1p(-p))
    )
    tail = (1.0 - CONFIDENCE) / 2.0
    # P(X_(l) > quantile) = P(Binomial <= l - 1), with 1-based order statistics X_(l).
    low = int(np.searchsorted(cumulative, tail, side="right"))
    high = int(np.searchsorted(cumulative, 1.0 - tail, side="left")) + 1
    return (low - 1, high - 1) if low >= 1 and high <= count else None


def relative_half_width(samples: Any, percentile: float) -> float:
    """Half the 95 % interval of the percentile over its estimate; infinite where there is none."""
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


def reason_to_stop(samples: Any, elapsed_s: float, scenario: Scenario) -> str | None:
    """``precision``, ``max_duration``, or ``None`` to go on. ``samples`` in order of time."""
    enough = (
        elapsed_s >= scenario.min_duration_s
        and len(samples) >= first_check(scenario)
        and not drifts(samples, scenario.target_relative_ci)
        and relative_half_width(samples, scenario.percentile) <= scenario.target_relative_ci
    )
    if enough:
        return PRECISION
    return MAX_DURATION if elapsed_s >= scenario.max_duration_s else None
