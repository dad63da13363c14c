"""The clock guard: the clock's tick, the cost of a reading, and what is too short to time."""

from __future__ import annotations

import math
from functools import reduce
from typing import Callable, Sequence

from agent.contract.failures import ClockError
from agent.contract.trial import Clock

NowNs = Callable[[], int]

CHUNKS = 20
CHUNK_READINGS = 1_000
MIN_TICKS = 100
MIN_CALL_COSTS = 10
MAX_CALLS_PER_SAMPLE = 1_000_000
PREEMPTION_NS = 50_000_000


def characterise(now_ns: NowNs, name: str) -> Clock:
    """Read the clock 20 000 times in a row: tick = gcd of the steps, cost = mean step.

    The cost is the median of the means over 1000 readings each: a mean, because steps below a
    coarse tick show as 0; a median, because another process may run in between.

    Raises:
        ClockError: it went backwards, or stood still throughout.
    """
    readings = CHUNKS * CHUNK_READINGS + 1
    times = [now_ns() for _ in range(readings)]
    steps = [times[n + 1] - times[n] for n in range(readings - 1)]
    if min(steps) < 0:
        raise ClockError("%s went backwards by %d ns" % (name, -min(steps)))
    tick = reduce(math.gcd, steps, 0)
    if tick == 0:
        raise ClockError("%s stood still over %d readings" % (name, readings))
    chunks = [times[n + CHUNK_READINGS] - times[n] for n in range(0, readings - 1, CHUNK_READINGS)]
    return Clock(name, tick, median(chunks) / CHUNK_READINGS)


def shortest_ns(clock: Clock) -> int:
    """The shortest time that this clock can measure: 100 ticks and 10 readings
    (docs/measurement.md)."""
    return math.ceil(max(MIN_TICKS * clock.tick_ns, MIN_CALL_COSTS * clock.call_ns))


def calls_per_sample(pilot_ns: Sequence[int], clock: Clock) -> int:
    """How many back-to-back calls a sample needs to be long enough, from times of single calls.

    Twice the shortest time is aimed at: calls get faster later, and a batch has no clock readings
    between them.

    Raises:
        ClockError: even ``MAX_CALLS_PER_SAMPLE`` calls would be too short.
    """
    wanted_ns, typical_ns = 2 * shortest_ns(clock), median(pilot_ns)
    if typical_ns >= wanted_ns:
        return 1
    calls = math.ceil(wanted_ns / max(typical_ns, clock.tick_ns / 2.0))
    if calls > MAX_CALLS_PER_SAMPLE:
        raise ClockError(
            "one inference takes %g ns; %s has ticks of %d ns: too short to time"
            % (typical_ns, clock.name, clock.tick_ns)
        )
    return calls


def require_long_enough(sample_ns: float, calls: int, clock: Clock) -> None:
    """Check ``sample_ns``, the median time of samples of ``calls`` calls each.

    Raises:
        ClockError: it is too short for this clock, or one call is less than one tick.
    """
    if sample_ns < shortest_ns(clock) or sample_ns / calls < clock.tick_ns:
        raise ClockError(
            "%d inferences in a row take %g ns; %s (tick %d ns, reading %.0f ns) needs %d ns"
            % (calls, sample_ns, clock.name, clock.tick_ns, clock.call_ns, shortest_ns(clock))
        )


def require_agreement(sum_ns: float, wall_ns: float, samples: int, clock: Clock) -> None:
    """Check that the samples fill the loop's wall time, apart from the cost of the loop itself.

    Allowed outside of the samples: 5 % of the wall time, 5 µs and 4 clock readings for each sample,
    and 50 ms once, because on a busy board the kernel may run another process that long.

    Raises:
        ClockError: they do not.
    """
    gap = wall_ns - sum_ns
    allowed = 0.05 * wall_ns + samples * (5_000 + 4 * clock.call_ns) + PREEMPTION_NS
    if gap < -clock.tick_ns * max(1, samples) or gap > allowed:
        raise ClockError(
            "%d laps sum to %.3f ms but the loop took %.3f ms"
            % (samples, sum_ns / 1e6, wall_ns / 1e6)
        )


def median(values: Sequence[int]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return float(ordered[middle])
    return (ordered[middle - 1] + ordered[middle]) / 2.0
