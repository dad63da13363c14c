"""Estimators: from a cell's measured trials to one figure each, for ``report/columns.py``.

No value has digits below the clock's tick. A figure covers every measured trial of its cell, or it
is absent and says why: a trial that lacks a value is often a slow one (a time limit came before it
had enough samples), and a figure without it would look faster than the cell is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.contract.trial import TrialResult
from agent.statistics import MAX_DURATION
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


class Incomplete(Exception):
    """A figure cannot cover every trial of its cell; the message says why. Raised by estimators."""


def of_every(
    trials: Sequence[MeasuredTrial], read: Callable[[MeasuredTrial], float | None]
) -> list[float]:
    """``read`` of every trial, in their order; empty where no trial has a value.

    Raises:
        Incomplete: some trials have a value and others have none.
    """
    found = [(t, read(t)) for t in trials]
    values = [value for _, value in found if value is not None]
    if values and len(values) < len(found):
        missing = [t for t, value in found if value is None]
        raise Incomplete(f"not known of {of_trials(missing, trials)}")
    return values


def of_trials(some: Sequence[MeasuredTrial], trials: Sequence[MeasuredTrial]) -> str:
    """``trial 2``, or ``3 of 5 trials``: which of the trials of a cell are meant."""
    if len(some) == 1:
        return f"trial {some[0].trial.index}"
    return f"{len(some)} of {len(trials)} trials"


def measured(trial: TrialData) -> MeasuredTrial | None:
    """The trial with its samples; ``None`` where it did not measure to the end, has no samples, or
    has a latency of zero.

    A trial that was over one of its limits afterwards, in its verification, has figures that are
    not verified.
    """
    if trial.result.status != "ok" and not _stopped_while_verifying(trial.result):
        return None
    caller = _usable(trial.series_ns("caller"))
    return (
        None
        if caller is None
        else MeasuredTrial(trial, caller, _usable(trial.series_ns("runtime")))
    )


def _stopped_while_verifying(result: TrialResult) -> bool:
    failure = result.failure
    if result.status != "failed" or failure is None:
        return False
    return failure.stage == "verify" and failure.kind in ("timeout", "out_of_memory")


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

    Absent where a trial has fewer samples than the percentile needs, or where q > 50 and samples
    are means of several calls. ``series``: ``caller`` or ``runtime``.
    """
    if not trials:
        return absent("ms", "no measured trial")
    if q > 50 and any(t.calls_per_sample > 1 for t in trials):
        return absent("ms", f"each sample is the mean of several calls: it has no p{q:g} of calls")
    silent = [t for t in trials if t.series_ns(series) is None]
    if silent:
        some = "" if len(silent) == len(trials) else f" in {of_trials(silent, trials)}"
        return absent("ms", f"the runtime reports no latency of its own{some}")
    short = too_short(trials, q)
    if short:
        return absent("ms", short)
    arrays = [a for t in trials if (a := t.series_ns(series)) is not None]
    points = [stats.percentile(a, q) / NS_PER_MS for a in arrays]
    return estimate(stats.geometric(points), "ms", clock_digits(trials))


def too_short(trials: Sequence[MeasuredTrial], q: float) -> str:
    """Why some of the trials have too few samples for their ``q``-th percentile; empty: none."""
    needed = stats.samples_needed(q)
    short = [t for t in trials if len(t.caller_ns) < needed]
    if not short:
        return ""
    least = min(short, key=lambda t: len(t.caller_ns))
    text = f"p{q:g} needs {needed} samples in every trial, trial {least.trial.index} has "
    text += f"{len(least.caller_ns)}"
    if len(short) > 1:
        text += f" ({len(short)} of {len(trials)} trials have fewer)"
    capped = any(s.stopped_by == MAX_DURATION for t in short if (s := t.trial.result.samples))
    return text + (
        "; raise scenario.max_duration_s" if capped else f"; set scenario.min_samples to {needed}"
    )


def medians_ms(trials: Sequence[MeasuredTrial]) -> list[float]:
    """Per-trial medians in ms, by which cells are compared: of every trial, or of none where a
    trial has too few samples for a median."""
    if too_short(trials, 50):
        return []
    return [stats.percentile(t.caller_ns, 50) / NS_PER_MS for t in trials]


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
    return _at_clock(median(of_every(trials, lambda t: _stdev(t.caller_ns))), trials)


def _stdev(samples: NDArray[np.float64]) -> float | None:
    return float(samples.std(ddof=1)) if len(samples) > 1 else None


def cv(trials: Sequence[MeasuredTrial]) -> float | None:
    """Median over trials of the coefficient of variation within a trial."""
    return median(of_every(trials, lambda t: stats.coefficient_of_variation(t.caller_ns)))


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
    values = of_every(trials, lambda t: getattr(t.trial.result.phases, name) or None)
    if not values:
        return absent(unit, "not measured")
    return estimate(stats.geometric([v * scale for v in values]), unit)


def convert_s(trials: Sequence[MeasuredTrial]) -> float | None:
    """Longest conversion among the trials that did not take the result from the cache."""
    results = [t.trial.result for t in trials]
    found = [r.phases.convert_s for r in results if not r.convert_cached and r.phases.convert_s]
    return max(found, default=None)


def median_overhead_s(trials: Sequence[MeasuredTrial]) -> float | None:
    """Median over trials of total − import − loads − first inference − warm-up − measuring."""
    return median(of_every(trials, lambda t: overhead_s(t.trial)))


def peak_rss_mib(trials: Sequence[MeasuredTrial]) -> float | None:
    """Largest over trials of the measured process's peak resident set size."""
    return max(of_every(trials, _peak_rss_mib), default=None)


def _peak_rss_mib(trial: MeasuredTrial) -> float | None:
    memory = trial.trial.result.memory
    return memory.peak_rss_mib if memory else None


def cpu_percent(trials: Sequence[MeasuredTrial]) -> float | None:
    """Median over trials of the processor use during the timed loop."""
    return median(of_every(trials, _cpu_percent))


def _cpu_percent(trial: MeasuredTrial) -> float | None:
    usage = trial.trial.result.usage
    return usage.cpu_percent if usage else None


def artifact_size_mib(trials: Sequence[MeasuredTrial]) -> float | None:
    """Size of the file that the runtime loaded; of the largest where the trials' files differ."""
    sizes = of_every(trials, lambda t: t.trial.result.artifact_size_bytes or None)
    return max(sizes) / BYTES_PER_MIB if sizes else None


def telemetry(trials: Sequence[MeasuredTrial]) -> dict[str, float]:
    """Median over trials of each telemetry reading that every trial has and that is finite."""
    names = sorted({name for t in trials for name in t.trial.result.telemetry})
    found: dict[str, float] = {}
    for name in names:
        values = [_finite(t.trial.result.telemetry.get(name)) for t in trials]
        known = [value for value in values if value is not None]
        if len(known) == len(trials):
            found[name] = float(np.median(known))
    return found


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


def median(values: Sequence[float]) -> float | None:
    """Median of the values; ``None`` where there are none."""
    return float(np.median(values)) if values else None
