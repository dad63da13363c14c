"""Estimators: from a cell's measured trials to one figure each, for ``report/columns.py``.

No value has digits below the clock's tick; a figure that cannot be computed says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.report.inputs import CellData, TrialData
from orchestrator.report.schema import Estimate
from orchestrator.report.statistics import stats

NS_PER_MS = 1e6
BYTES_PER_MIB = 1 << 20
ONE_TRIAL = "1 trial: no interval"


@dataclass(frozen=True)
class MeasuredTrial:
    """One trial whose samples can be used. ``caller_ns`` and ``runtime_ns`` have shape (count,)."""

    trial: TrialData
    caller_ns: NDArray[np.float64]
    runtime_ns: NDArray[np.float64] | None

    def series_ns(self, name: str) -> NDArray[np.float64] | None:
        """The ``caller``'s samples or the ``runtime``'s own, shape (count,)."""
        return self.caller_ns if name == "caller" else self.runtime_ns

    @property
    def calls_per_sample(self) -> int:
        samples = self.trial.result.samples
        return max(1, samples.calls_per_sample) if samples else 1

    @property
    def tick_ns(self) -> float:
        """Resolution of this trial's samples in ns: the clock's tick over the calls per sample, and
        at least the 1 ns in which samples are stored."""
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
    """The trial with its samples; ``None`` where it is not ok, has no samples, or has a latency of
    zero."""
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
    """An estimate without a value, and why."""
    return Estimate(unit=unit, reason=reason)


def estimate(interval: stats.Interval, unit: str, digits: int | None = None) -> Estimate:
    """An interval as a report's estimate, rounded to ``digits`` after the point, which a clock's
    tick limits, or to nine significant digits."""

    def rounded(value: float | None) -> float | None:
        if value is None:
            return None
        return float(f"{value:.9g}") if digits is None else round(value, digits)

    return Estimate(
        unit=unit,
        value=rounded(interval.value),
        low=rounded(interval.low),
        high=rounded(interval.high),
        n=interval.n,
        reason="" if interval.low is not None else ONE_TRIAL,
        decimals=digits,
    )


def clock_digits(trials: Sequence[MeasuredTrial]) -> int | None:
    """Decimals of a millisecond that the coarsest clock among the trials supports; ``None`` without
    trials."""
    return decimals(max(t.tick_ns for t in trials) / NS_PER_MS) if trials else None


def percentile_ms(trials: Sequence[MeasuredTrial], q: float, series: str = "caller") -> Estimate:
    """Geometric mean over trials of each trial's ``q``-th percentile, in ms.

    Trials with fewer samples than the percentile needs are left out. Absent where none is left, or
    where q > 50 and samples are means of several calls. ``series``: ``caller`` or ``runtime``.
    """
    if not trials:
        return absent("ms", "no measured trial")
    if q > 50 and any(t.calls_per_sample > 1 for t in trials):
        return absent("ms", f"each sample is the mean of several calls: it has no p{q:g} of calls")
    found = [t for t in trials if t.series_ns(series) is not None]
    if not found:
        return absent("ms", "the runtime reports no latency of its own")
    arrays = [a for t in found if (a := t.series_ns(series)) is not None]
    needed = stats.samples_needed(q)
    enough = [a for a in arrays if len(a) >= needed]
    if not enough:
        most = max(len(a) for a in arrays)
        return absent("ms", f"p{q:g} needs {needed} samples in a trial, the longest has {most}")
    points = [stats.percentile(a, q) / NS_PER_MS for a in enough]
    return estimate(stats.geometric(points), "ms", clock_digits(found))


def medians_ms(trials: Sequence[MeasuredTrial]) -> list[float]:
    """Per-trial medians in ms, by which cells are compared, of trials with enough samples for a
    median."""
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
    """Total inferences over total time of the timed loops, per second."""
    if not trials:
        return absent("1/s", "no measured trial")
    return estimate(stats.rate([t.inferences for t in trials], [t.seconds for t in trials]), "1/s")


def min_ms(trials: Sequence[MeasuredTrial]) -> float | None:
    """Smallest sample of all trials."""
    return _at_clock(min((float(t.caller_ns.min()) for t in trials), default=None), trials)


def max_ms(trials: Sequence[MeasuredTrial]) -> float | None:
    """Largest sample of all trials."""
    return _at_clock(max((float(t.caller_ns.max()) for t in trials), default=None), trials)


def stdev_ms(trials: Sequence[MeasuredTrial]) -> float | None:
    """Median over trials of the sample standard deviation within a trial."""
    series = [t.caller_ns for t in trials]
    return _at_clock(median([float(s.std(ddof=1)) if len(s) > 1 else None for s in series]), trials)


def cv(trials: Sequence[MeasuredTrial]) -> float | None:
    """Median over trials of the coefficient of variation within a trial."""
    return median([stats.coefficient_of_variation(t.caller_ns) for t in trials])


def mad_ms(trials: Sequence[MeasuredTrial]) -> float | None:
    """Median over trials of the median absolute deviation within a trial."""
    return _at_clock(median([stats.mad(t.caller_ns) for t in trials]), trials)


def _at_clock(value_ns: float | None, trials: Sequence[MeasuredTrial]) -> float | None:
    """Nanoseconds as milliseconds, rounded to the coarsest clock among the trials."""
    digits = clock_digits(trials)
    return None if value_ns is None or digits is None else round(value_ns / NS_PER_MS, digits)


def phase(trials: Sequence[MeasuredTrial], name: str, unit: str = "", scale: float = 1) -> Estimate:
    """Geometric mean over trials of a phase's duration.

    ``name``: field of ``Phases``; ``scale``: from its unit to ``unit``.
    """
    found = [getattr(t.trial.result.phases, name) for t in trials]
    values = [v * scale for v in found if v is not None and v > 0]
    if not values:
        return absent(unit, "not measured")
    return estimate(stats.geometric(values), unit)


def convert_s(trials: Sequence[MeasuredTrial]) -> float | None:
    """Longest conversion among the trials that did not take the result from the cache."""
    results = [t.trial.result for t in trials]
    found = [r.phases.convert_s for r in results if not r.convert_cached and r.phases.convert_s]
    return max(found, default=None)


def median_overhead_s(trials: Sequence[MeasuredTrial]) -> float | None:
    """Median over trials of total − import − loads − first inference − warm-up − measuring."""
    return median([overhead_s(t.trial) for t in trials])


def peak_rss_mib(trials: Sequence[MeasuredTrial]) -> float | None:
    """Largest over trials of the measured process's peak resident set size."""
    memories = [t.trial.result.memory for t in trials]
    return max((m.peak_rss_mib for m in memories if m), default=None)


def cpu_percent(trials: Sequence[MeasuredTrial]) -> float | None:
    """Median over trials of the processor use during the timed loop."""
    return median([u.cpu_percent if (u := t.trial.result.usage) else None for t in trials])


def artifact_size_mib(trials: Sequence[MeasuredTrial]) -> float | None:
    """Size of the file that the runtime loaded, from the first trial that reports one."""
    sizes = (t.trial.result.artifact_size_bytes for t in trials)
    size = next((size for size in sizes if size), None)
    return size / BYTES_PER_MIB if size else None


def telemetry(trials: Sequence[MeasuredTrial]) -> dict[str, float]:
    """Median over trials of each telemetry reading; readings that are not finite are left out."""
    results = [t.trial.result for t in trials]
    names = sorted({name for r in results for name in r.telemetry})
    found = {n: median([_finite(r.telemetry.get(n)) for r in results]) for n in names}
    return {name: value for name, value in found.items() if value is not None}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def overhead_s(trial: TrialData) -> float | None:
    """Seconds of one attempt outside the runtime: total − import − loads − first inference −
    warm-up − measuring. ``None`` where one of them is unknown."""
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
    """Median of the values that are not ``None``; ``None`` where all are."""
    known = [v for v in values if v is not None]
    return float(np.median(known)) if known else None
