"""Statistics of latency samples: pure functions, each with the source of its formula.

The unit of comparison is the fresh-process trial, not the single inference: inferences of one
process share its memory layout, clock state and neighbours, so their spread says nothing about
another start of the same program. Within a trial intervals come from order statistics, across
trials from Student's t on the logarithms of the per-trial values (docs/measurement.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
"""Level of every interval in a report."""

CLAIM_CONFIDENCE = 0.99
"""One-sided level at which a percentile may be claimed at all (``samples_needed``)."""

Floats = NDArray[np.float64]


def _scipy() -> Any:
    """``scipy.stats``, imported late: it takes seconds, which the controller's start need not wait
    for."""
    from scipy import stats

    return stats


@dataclass(frozen=True)
class Interval:
    """A point estimate and its two-sided confidence interval; ``low`` and ``high`` are ``None``
    where there is none. ``n``: number of independent values that it is computed from."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Ratio:
    """``baseline / cell``: above 1 the cell is faster. ``p_value``: two-sided, for the hypothesis
    of no difference; ``None`` where either side has fewer than two trials."""

    value: float
    low: float | None
    high: float | None
    p_value: float | None

    @property
    def shown(self) -> bool:
        """Whether the interval excludes 1."""
        return self.low is not None and self.high is not None and not self.low <= 1.0 <= self.high


def positive(values: ArrayLike) -> Floats:
    """``values`` as a non-empty float array, shape (n,).

    Raises:
        ValueError: empty, or a value that is not a positive number (a latency of zero is a broken
            clock, and has no logarithm).
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    if array.size == 0:
        raise ValueError("no samples")
    if not bool(np.all(np.isfinite(array) & (array > 0))):
        raise ValueError(
            "samples must be finite and above zero; the clock or the timed code is broken"
        )
    return array


def percentile(samples: ArrayLike, q: float) -> float:
    """The ``q``-th percentile (0 to 100) of one trial, linear between order statistics.

    Source: Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996, definition 7; NumPy's
    ``linear`` method.
    """
    return float(np.percentile(positive(samples), q, method="linear"))


@lru_cache(maxsize=64)
def samples_needed(q: float, confidence: float = CLAIM_CONFIDENCE) -> int:
    """Smallest n that supports a claim on a percentile: p50 11, p90 64, p95 130, p99 662.

    With that many independent samples at least two lie above the true percentile with probability
    ``confidence``: P[Binomial(n, 1 - q/100) <= 1] <= 1 - confidence. Fewer, and the estimate rests
    on a single largest value. Source: the early-stopping rule of MLPerf LoadGen with one discarded
    sample (binomial, one-sided).

    Raises:
        ValueError: ``q`` is not strictly between 0 and 100.
    """
    if not 0 < q < 100:
        raise ValueError(f"a percentile lies strictly between 0 and 100, found {q}")
    tail = 1 - q / 100
    n, sps = 2, _scipy()
    while float(sps.binom.cdf(1, n, tail)) > 1 - confidence:
        n += 1
    return n


def percentile_interval(samples: ArrayLike, q: float, confidence: float = CONFIDENCE) -> Interval:
    """Distribution-free interval of one trial's percentile, from order statistics.

    The ranks l and u are the binomial quantiles with at most (1 - confidence)/2 outside each, so
    the coverage is at least ``confidence`` for independent samples. No interval where the trial has
    no such ranks. Source: Hahn and Meeker, "Statistical Intervals", 1991, section 5.2.
    """
    ordered = np.sort(positive(samples))
    n, share, tail = len(ordered), q / 100, (1 - confidence) / 2
    low_rank = int(_scipy().binom.ppf(tail, n, share))
    high_rank = int(_scipy().binom.ppf(1 - tail, n, share)) + 1
    value = percentile(ordered, q)
    if low_rank < 1 or high_rank > n:
        return Interval(value, None, None, n)
    # On tiny samples interpolation may leave the ranks; an interval always holds its point.
    low = min(value, float(ordered[low_rank - 1]))
    high = max(value, float(ordered[high_rank - 1]))
    return Interval(value, low, high, n)


def geometric(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Geometric mean of per-trial values, with Student's t interval of their logarithms.

    Latencies of fresh processes differ by factors (clock, memory layout, neighbours), so their
    logarithms are closer to a normal distribution; and the interval stays above zero. One value has
    no interval.
    Source: Fleming and Wallace, CACM 29(3), 1986 (the mean); Student's t with n - 1 degrees.
    """
    logs = np.log(positive(values))
    n, centre = len(logs), float(logs.mean())
    if n < 2:
        return Interval(math.exp(centre), None, None, n)
    half = (
        float(_scipy().t.ppf((1 + confidence) / 2, n - 1)) * float(logs.std(ddof=1)) / math.sqrt(n)
    )
    return Interval(math.exp(centre), math.exp(centre - half), math.exp(centre + half), n)


def rate(counts: ArrayLike, seconds: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Inferences per second over trials: total inferences over total time.

    Not the mean of the trials' rates, in which a short trial would weigh as much as a long one. The
    interval is that of a ratio estimator by linearisation, computed on the logarithm so that it
    stays above zero.
    Source: Cochran, "Sampling Techniques", 3rd ed. 1977, section 6.4.
    """
    done, spent = positive(counts), positive(seconds)
    if len(done) != len(spent):
        raise ValueError(f"{len(done)} counts but {len(spent)} durations")
    n, value = len(done), float(done.sum() / spent.sum())
    if n < 2:
        return Interval(value, None, None, n)
    residuals = done - value * spent
    relative = math.sqrt(n / (n - 1) * float(residuals @ residuals)) / float(done.sum())
    factor = math.exp(float(_scipy().t.ppf((1 + confidence) / 2, n - 1)) * relative)
    return Interval(value, value / factor, value * factor, n)


def ratio(baseline: ArrayLike, cell: ArrayLike, confidence: float = CONFIDENCE) -> Ratio:
    """Speed-up of ``cell`` over ``baseline`` from per-trial medians, by Welch's t on logarithms.

    Source: Welch, "The generalization of Student's problem", Biometrika 34, 1947, with the
    Welch–Satterthwaite degrees of freedom; exponentiated, a difference of logs is a ratio.
    """
    first, second = np.log(positive(baseline)), np.log(positive(cell))
    difference = float(first.mean() - second.mean())
    if min(len(first), len(second)) < 2:
        return Ratio(math.exp(difference), None, None, None)
    a, b = (float(x.var(ddof=1)) / len(x) for x in (first, second))
    error = math.sqrt(a + b)
    if error <= 1e-12:  # identical values throughout, to the clock's tick: t is undefined
        value = math.exp(difference)
        return Ratio(value, value, value, 1.0 if abs(difference) <= 1e-12 else 0.0)
    degrees = (a + b) ** 2 / (a * a / (len(first) - 1) + b * b / (len(second) - 1))
    half = float(_scipy().t.ppf((1 + confidence) / 2, degrees)) * error
    p_value = 2 * float(_scipy().t.sf(abs(difference) / error, degrees))
    low, high = math.exp(difference - half), math.exp(difference + half)
    return Ratio(math.exp(difference), low, high, p_value)


def adjust(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for multiple comparisons by controlling the false discovery rate.

    Source: Benjamini and Hochberg, JRSS B 57(1), 1995; ``scipy.stats.false_discovery_control``.
    """
    if not p_values:
        return []
    return [float(p) for p in _scipy().false_discovery_control(list(p_values), method="bh")]


def effective_sample_size(samples: ArrayLike) -> float:
    """Effective sample size n / (1 + 2 Σρ), at most n, with autocorrelations ρ.

    The sum is truncated to the initial positive sequence. Source: Geyer, "Practical
    Markov Chain Monte Carlo", Statistical Science 7(4), 1992, section 3.3.
    """
    values = positive(samples)
    n = len(values)
    centred = values - values.mean()
    variance = float(centred @ centred)
    if n < 4 or variance <= n * (1e-12 * float(values.mean())) ** 2:
        return float(n)
    spectrum = np.fft.rfft(centred, 1 << (2 * n - 1).bit_length())
    rho = np.fft.irfft(spectrum * np.conj(spectrum))[:n] / variance
    pairs = rho[0 : n - n % 2 : 2] + rho[1:n:2]
    negative = np.flatnonzero(pairs <= 0)
    kept = pairs[: int(negative[0])] if len(negative) else pairs
    return float(n / max(1.0, 2 * float(kept.sum()) - 1))


def coefficient_of_variation(samples: ArrayLike) -> float | None:
    """Standard deviation (n - 1) over mean; ``None`` for a single sample."""
    values = positive(samples)
    return None if len(values) < 2 else float(values.std(ddof=1) / values.mean())


def mad(samples: ArrayLike) -> float:
    """Median absolute deviation from the median, unscaled, in the samples' unit.

    Source: Hampel, JASA 69, 1974. ``scipy.stats.median_abs_deviation`` with ``scale=1``.
    """
    values = positive(samples)
    return float(np.median(np.abs(values - np.median(values))))
