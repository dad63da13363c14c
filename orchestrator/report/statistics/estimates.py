"""From one cell's trials to its estimates, with the clock's tick respected and gaps explained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.report.inputs import CellData, TrialData
from orchestrator.report.schema import Estimate
from orchestrator.report.statistics import stats

NS_PER_MS = 1e6
ONE_TRIAL = "1 trial: no interval"


@dataclass(frozen=True)
class MeasuredTrial:
    """One trial whose samples can be used. ``caller_ns`` and ``runtime_ns`` have shape (count,)."""

    trial: TrialData
    caller_ns: NDArray[np.float64]
    runtime_ns: NDArray[np.float64] | None

    @property
    def calls_per_sample(self) -> int:
        samples = self.trial.result.samples
        return max(1, samples.calls_per_sample) if samples else 1

    @property
    def tick_ns(self) -> float:
        """The step in which this trial's samples can differ: never finer than the 1 ns they are
        stored in; the mean of k calls has the k-th part of the clock's tick."""
        clock = self.trial.result.clock
        return max(1.0, (clock.tick_ns if clock else 1) / self.calls_per_sample)

    @property
    def inferences(self) -> int:
        samples = self.trial.result.samples
        batch = max(1, samples.batch_size) if samples else 1
        return len(self.caller_ns) * self.calls_per_sample * batch

    @property
    def seconds(self) -> float:
        """Outer wall time of the timed loop; the sum of its samples where that was not recorded."""
        samples = self.trial.result.samples
        if samples is not None and samples.wall_s > 0:
            return samples.wall_s
        return float(self.caller_ns.sum()) * self.calls_per_sample / 1e9


def measured(trial: TrialData) -> MeasuredTrial | None:
    """The trial's usable samples, or ``None`` (not ok, no blob, or a latency of zero)."""
    if trial.result.status != "ok":
        return None
    caller = _usable(trial.series_ns("caller"))
    return (
        None
        if caller is None
        else MeasuredTrial(trial, caller, _usable(trial.series_ns("runtime")))
    )


def measured_trials(cell: CellData) -> list[MeasuredTrial]:
    """Every usable trial of a cell, by index."""
    found = (measured(trial) for trial in sorted(cell.trials, key=lambda t: t.index))
    return [m for m in found if m is not None]


def _usable(samples: NDArray[np.int64] | None) -> NDArray[np.float64] | None:
    if samples is None or len(samples) == 0 or bool(np.any(samples <= 0)):
        return None
    return samples.astype(np.float64)


def decimals(tick: float) -> int:
    """Digits after the point that a step of ``tick`` supports, in the tick's own unit: 1e-6 → 6."""
    return max(0, math.floor(-math.log10(tick) + 1e-9))


def absent(unit: str, reason: str) -> Estimate:
    """No figure, and why."""
    return Estimate(unit=unit, reason=reason)


def estimate(interval: stats.Interval, unit: str, digits: int | None = None) -> Estimate:
    """An interval as the report's figure, rounded to the clock where one is involved."""

    def cut(value: float | None) -> float | None:
        if value is None:
            return None
        return float(f"{value:.9g}") if digits is None else round(value, digits)

    return Estimate(
        unit=unit,
        value=cut(interval.value),
        low=cut(interval.low),
        high=cut(interval.high),
        n=interval.n,
        reason="" if interval.low is not None else ONE_TRIAL,
        decimals=digits,
    )


def clock_digits(trials: Sequence[MeasuredTrial]) -> int | None:
    """Decimals of a millisecond that the coarsest clock among the trials supports."""
    return decimals(max(t.tick_ns for t in trials) / NS_PER_MS) if trials else None


def percentile_ms(trials: Sequence[MeasuredTrial], q: float, series: str = "caller") -> Estimate:
    """Geometric mean over trials of each trial's percentile; absent with its reason where a trial
    has fewer samples than the percentile needs, or each sample is itself a mean of calls."""
    if not trials:
        return absent("ms", "no measured trial")
    if q > 50 and any(t.calls_per_sample > 1 for t in trials):
        return absent("ms", f"each sample is the mean of several calls: it has no p{q:g} of calls")
    found = [t.caller_ns if series == "caller" else t.runtime_ns for t in trials]
    arrays = [a for a in found if a is not None]
    if not arrays:
        return absent("ms", "the runtime reports no latency of its own")
    needed = stats.samples_needed(q)
    enough = [a for a in arrays if len(a) >= needed]
    if not enough:
        most = max(len(a) for a in arrays)
        return absent("ms", f"p{q:g} needs {needed} samples in a trial, the longest has {most}")
    points = [stats.percentile(a, q) / NS_PER_MS for a in enough]
    return estimate(stats.geometric(points), "ms", clock_digits(trials))


def medians_ms(trials: Sequence[MeasuredTrial]) -> list[float]:
    """Per-trial medians of trials long enough for one: what cells are compared by."""
    needed = stats.samples_needed(50)
    return [
        stats.percentile(t.caller_ns, 50) / NS_PER_MS for t in trials if len(t.caller_ns) >= needed
    ]


def mean_ms(trials: Sequence[MeasuredTrial]) -> Estimate:
    """Geometric mean over trials of each trial's mean latency."""
    if not trials:
        return absent("ms", "no measured trial")
    points = [float(t.caller_ns.mean()) / NS_PER_MS for t in trials]
    return estimate(stats.geometric(points), "ms", clock_digits(trials))


def throughput(trials: Sequence[MeasuredTrial]) -> Estimate:
    """Total inferences / total time of the timed loops."""
    if not trials:
        return absent("1/s", "no measured trial")
    return estimate(stats.rate([t.inferences for t in trials], [t.seconds for t in trials]), "1/s")


def phase(
    trials: Sequence[MeasuredTrial],
    read: Callable[[TrialData], float | None],
    unit: str,
    scale: float = 1,
) -> Estimate:
    """Geometric mean over trials of a phase's duration times ``scale``."""
    found = [read(t.trial) for t in trials]
    values = [v * scale for v in found if v is not None and v > 0]
    if not values:
        return absent(unit, "not measured")
    return estimate(stats.geometric(values), unit)


def overhead_s(trial: TrialData) -> float | None:
    """Seconds of one attempt that were neither the runtime's own start nor its measuring:
    total − import − loads − first inference − warm-up − measuring. ``None`` where one is unknown.
    """
    phases = trial.result.phases
    parts = (phases.import_s, phases.load_cold_s, phases.warm_up_s, phases.measure_s)
    if phases.total_s is None or phases.first_inference_ms is None:
        return None
    known = [p for p in parts if p is not None]
    if len(known) < len(parts):
        return None
    spent = sum(known) + (phases.load_warm_s or 0.0) + phases.first_inference_ms / 1000
    return max(0.0, phases.total_s - spent)


def median(values: Sequence[float | None]) -> float | None:
    """Median of what is known, ``None`` where nothing is."""
    known = [v for v in values if v is not None]
    return float(np.median(known)) if known else None
