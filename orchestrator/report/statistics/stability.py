"""Trust verdict of a trial: steady, drifting, interfered with or too short.

Change points over the samples in time order, classified as in Barrett et al., "Virtual Machine
Warmup Blows Hot and Cold", OOPSLA 2017. Pure functions of the samples and of the device's readings
before and after; the reason for each threshold is beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from agent.contract.trial import Fingerprint, Samples, TrialResult
from orchestrator.report import number_format
from orchestrator.report.schema import Trust
from orchestrator.report.statistics.change_points import blocks, change_points

Shape = Literal["flat", "warm_up", "slow_down", "no_steady_state"]

PRIORITY: tuple[Trust, ...] = (
    "interfered",  # may be the cause of the others
    "no_steady_state",
    "slowing_down",
    "warming_up",
    "too_short",
    "unknown",
    "steady",
)
"""From the most serious verdict to the least; the first that applies is a trial's verdict."""

SAME_LEVEL = 0.02
"""Segments whose means differ by less than 2 % count as one level. The default stopping rule aims
at a half-width of 1 % for the median, so a smaller drift is within the interval."""
LAST_PART = 0.25
"""A level change within the last quarter: the trial never settled (Barrett et al.: 500 of 2000)."""
FIRST_PART = 0.05
"""A slower start within the first 5 % does not count as drift: it moves the rank of the median by
2.5 percentage points at most, less than the median's interval spans."""
MIN_SAMPLES = 30
"""In fewer samples PELT cannot find two segments under its penalty."""
MAX_PRESSURE = 0.05
"""Largest share of the measuring time in which some task waited for a processor (PSI ``some``);
above 5 % the waiting can reach the p95."""
MAX_SWITCHES_PER_CORE_S = 25.0
"""Most involuntary context switches per busy core and second. A scheduler's time slice is 3 to
4 ms, so 25 take about a tenth of the core from the timed loop."""
CLOCK_DROP = 0.05
"""A fall of the processor clock by more than 5 % during the trial is reported as throttling."""


@dataclass(frozen=True)
class Segments:
    """``levels``: the segments' mean latencies in the samples' unit; ``ends``: their ends as shares
    of the trial, in (0, 1]. Both in time order."""

    shape: Shape
    levels: tuple[float, ...]
    ends: tuple[float, ...]


@dataclass(frozen=True)
class StabilityVerdict:
    """``trust``: the most serious class that applies; ``reasons``: a sentence for each, with
    figures."""

    trust: Trust
    reasons: tuple[str, ...] = ()


def segments(samples: ArrayLike) -> Segments:
    """Classify one trial's samples, shape (count,), in time order.

    *flat*: every segment is at the level of the last, apart from a slower first 5 %.
    *warm-up*: the last level is the fastest; *slow-down*: it is not.
    *no steady state*: the level still changed in the last quarter.
    """
    series = blocks(samples)
    ends = change_points(series)
    parts = [series[a:b] for a, b in pairwise([0, *ends])]
    means = [float(part.mean()) for part in parts]
    last = means[-1]
    slack = max(SAME_LEVEL * last, float(parts[-1].std()))
    different = [i for i, mean in enumerate(means) if abs(mean - last) > slack]
    shares = tuple(end / len(series) for end in ends)
    return Segments(_shape(means, shares, different), tuple(means), shares)


def _shape(means: list[float], ends: tuple[float, ...], different: list[int]) -> Shape:
    if not different:
        return "flat"
    if ends[different[-1]] <= FIRST_PART and all(means[i] > means[-1] for i in different):
        return "flat"
    if ends[different[-1]] > 1 - LAST_PART:
        return "no_steady_state"
    return "warm_up" if all(means[i] > means[-1] for i in different) else "slow_down"


def judge_trial(result: TrialResult, samples: ArrayLike | None) -> StabilityVerdict:
    """The trust verdict of one trial from drift, length, and interference by other processes."""
    if samples is None or result.samples is None:
        return StabilityVerdict("unknown", ("no samples",))
    found = [
        *_interference(result),
        *_drift(samples, result),
        *_length(result.samples, len(np.asarray(samples))),
    ]
    if not found:
        return StabilityVerdict("steady")
    trust = min((name for name, _ in found), key=PRIORITY.index)
    return StabilityVerdict(trust, tuple(text for _, text in found))


def judge_cell(verdicts: Sequence[StabilityVerdict]) -> StabilityVerdict:
    """Steady only where every trial is, else the most frequent other verdict; of equally frequent
    ones the most serious."""
    if not verdicts:
        return StabilityVerdict("unknown", ("no measured trial",))
    unsteady = [v for v in verdicts if v.trust != "steady"]
    if not unsteady:
        return StabilityVerdict("steady")
    counts = Counter(v.trust for v in unsteady)
    trust = min(counts, key=lambda name: (-counts[name], PRIORITY.index(name)))
    reasons = []
    for name in sorted(counts, key=PRIORITY.index):
        example = next(v.reasons[0] for v in unsteady if v.trust == name and v.reasons)
        reasons.append(
            f"{counts[name]} of {len(verdicts)} trials {number_format.words(name)}: {example}"
        )
    return StabilityVerdict(trust, tuple(reasons))


def _length(samples: Samples, count: int) -> list[tuple[Trust, str]]:
    found: list[tuple[Trust, str]] = []
    if samples.stopped_by == "max_duration":
        found.append(
            ("too_short", f"the time limit came before the precision target ({count} samples)")
        )
    if count < MIN_SAMPLES:
        found.append(("too_short", f"{count} samples; judging steadiness needs {MIN_SAMPLES}"))
    return found


def _drift(samples: ArrayLike, result: TrialResult) -> list[tuple[Trust, str]]:
    if len(np.asarray(samples)) < MIN_SAMPLES:
        return []
    found = segments(samples)
    if found.shape == "flat":
        return []
    first, last = found.levels[0], found.levels[-1]
    moved = f"latency went from {first / 1e6:.4g} to {last / 1e6:.4g} ms"
    if found.shape == "warm_up":
        settled = max(
            end
            for end, level in zip(found.ends, found.levels, strict=True)
            if abs(level - last) > SAME_LEVEL * last
        )
        return [("warming_up", f"{moved}, settled after {settled:.0%} of the trial")]
    hint = _throttling(result.fingerprint_before, result.fingerprint_after)
    if found.shape == "slow_down":
        lowest = min(found.levels)
        text = f"latency rose from {lowest / 1e6:.4g} to {last / 1e6:.4g} ms within the trial"
        return [("slowing_down", text + hint)]
    return [("no_steady_state", f"{moved} and still changed in the last quarter" + hint)]


def _throttling(before: Fingerprint | None, after: Fingerprint | None) -> str:
    if before is None or after is None:
        return ""
    hints = []
    if before.cpu_mhz and after.cpu_mhz and after.cpu_mhz < (1 - CLOCK_DROP) * before.cpu_mhz:
        hints.append(f"processor clock fell from {before.cpu_mhz:.0f} to {after.cpu_mhz:.0f} MHz")
    if before.temperature_c is not None and after.temperature_c is not None:
        change = after.temperature_c - before.temperature_c
        if change >= 5:
            hints.append(f"{change:.0f} °C warmer at the end")
    return f" ({', '.join(hints)})" if hints else ""


def _interference(result: TrialResult) -> list[tuple[Trust, str]]:
    found: list[tuple[Trust, str]] = []
    share = pressure_share(result.fingerprint_before, result.fingerprint_after)
    if share is not None and share > MAX_PRESSURE:
        found.append(("interfered", f"tasks waited for a processor {share:.0%} of the time"))
    usage, samples = result.usage, result.samples
    if usage is not None and samples is not None and samples.wall_s > 0:
        cores = max(1.0, usage.cpu_percent / 100)
        per_core_s = usage.involuntary_switches / samples.wall_s / cores
        if per_core_s > MAX_SWITCHES_PER_CORE_S:
            found.append(
                ("interfered", f"{per_core_s:.0f} involuntary context switches per core and second")
            )
    return found


def pressure_share(before: Fingerprint | None, after: Fingerprint | None) -> float | None:
    """Share (0 to 1) of the time between two readings in which some task waited for a processor,
    from the total in ``/proc/pressure/cpu``; ``None`` where the kernel does not have it."""
    if before is None or after is None:
        return None
    if before.pressure_cpu_some_us is None or after.pressure_cpu_some_us is None:
        return None
    window_us = (after.at_unix_ns - before.at_unix_ns) / 1000
    waited_us = after.pressure_cpu_some_us - before.pressure_cpu_some_us
    return waited_us / window_us if window_us > 0 and waited_us >= 0 else None
