"""Whether a trial's figures can be trusted: steady, drifting, disturbed or too short.

Change points over the samples in time order, classed as in Barrett et al., "Virtual Machine Warmup
Blows Hot and Cold", OOPSLA 2017. Everything here is a pure function of samples and the board's
own readings; the thresholds are constants with their reasons.
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
    "interfered",  # explains whatever else was seen
    "no_steady_state",
    "slowing_down",
    "warming_up",
    "too_short",
    "unknown",
    "steady",
)

SAME_LEVEL = 0.02
"""Segments whose means differ by less than 2 % are one level: the default stopping rule aims at
1 % at the median, so a smaller drift could not change a decision taken from the figures."""
LAST_PART = 0.25
"""A level change within the last quarter: the trial never settled (Barrett et al.: 500 of 2000)."""
FIRST_PART = 0.05
"""A slower start that is over by then is left alone: it moves the median's rank by 2.5 points at
most, far less than its interval spans."""
MIN_SAMPLES = 30
"""Fewer cannot hold two states that PELT tells apart under its penalty."""
MAX_PRESSURE = 0.05
"""Share of the window in which some task waited for a processor. Above one part in twenty the
waiting can reach the p95."""
MAX_SWITCHES_PER_CORE_S = 25.0
"""Involuntary context switches per busy core and second. A scheduler slice is 3 to 4 ms, so 25
take about a tenth of the core away from the timed loop."""
CLOCK_DROP = 0.05
"""A fall of the processor clock by more than 5 % over the measurement is named as throttling."""


@dataclass(frozen=True)
class Segments:
    """``levels`` are the segments' mean latencies (the samples' unit), ``ends`` their ends as
    shares of the trial (0 to 1], in time order."""

    shape: Shape
    levels: tuple[float, ...]
    ends: tuple[float, ...]


@dataclass(frozen=True)
class StabilityVerdict:
    """``trust`` is the gravest class that applies; ``reasons`` names each, with its figures."""

    trust: Trust
    reasons: tuple[str, ...] = ()


def segments(samples: ArrayLike) -> Segments:
    """Class one trial's samples, given in time order.

    *flat*: every segment is at the level of the last one, but for a slower first twentieth.
    *warm-up*: the last level is the fastest.
    *slow-down*: it is not. *no steady state*: the level still changed in the last quarter.
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
    """The trust verdict of one trial: its samples' shape, its length, and its surroundings."""
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
    """Steady only where every trial is; else the most frequent other (on a tie, the graver)."""
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
    """Share (0 to 1) of the window in which some task waited for a processor, from the running
    total of ``/proc/pressure/cpu``; ``None`` where the kernel does not tell."""
    if before is None or after is None:
        return None
    if before.pressure_cpu_some_us is None or after.pressure_cpu_some_us is None:
        return None
    window_us = (after.at_unix_ns - before.at_unix_ns) / 1000
    waited_us = after.pressure_cpu_some_us - before.pressure_cpu_some_us
    return waited_us / window_us if window_us > 0 and waited_us >= 0 else None
