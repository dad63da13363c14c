"""The timed loop. What stands between two clock readings is ``infer()`` and nothing else."""

from __future__ import annotations

import gc
from array import array
from collections import deque
from contextlib import contextmanager
from typing import Callable, Deque, Iterator, List, MutableSequence, Optional

import numpy as np

from agent import statistics
from agent.contract.trial import Clock, Scenario
from agent.runner import clock as clocks
from agent.runner.clock import NowNs
from agent.runtimes.backend import Laps

Infer = Callable[[], None]
OwnNs = Callable[[], int]
Integers = MutableSequence[int]
"""An ``array("q")`` made before the loop: a list would keep 40 bytes for each sample."""

PILOT_KEPT = 64
PILOT_CALLS = 16
PILOT_NS = 10_000_000
BLOCK_LAPS = 65_536
"""Most laps between two looks at the clock guard's arrays: bounds memory made ahead of need."""


def warm_up(infer: Infer, seconds: float, now_ns: NowNs) -> List[int]:
    """Infer for ``seconds``, at least once; the last calls' times, as a pilot for the loop.

    A pilot needs ``PILOT_CALLS`` calls, for which ``PILOT_NS`` may be added to short warm-ups.
    """
    laps: Deque[int] = deque(maxlen=PILOT_KEPT)
    end = now_ns() + int(seconds * 1e9)
    while True:
        start = now_ns()
        infer()
        stop = now_ns()
        laps.append(stop - start)
        if stop >= end and (len(laps) >= PILOT_CALLS or stop >= end + PILOT_NS):
            return list(laps)


def measure(
    infer: Infer,
    own_ns: Optional[OwnNs],
    pilot_ns: List[int],
    scenario: Scenario,
    clock: Clock,
    now_ns: NowNs,
) -> Laps:
    """Time back-to-back calls until ``stopping`` is content or the maximum time is over.

    Args:
        own_ns: latency of the last inference as the runtime reports it; read outside the lap.
        pilot_ns: times of single calls just before, for the clock guard.

    Raises:
        ClockError: an inference too short for this clock, or laps that do not fill the wall time.
    """
    calls = clocks.calls_per_sample(pilot_ns, clock)
    own = own_ns if calls == 1 else None
    caller = np.empty(0, dtype=np.int64)
    runtime = np.empty(0, dtype=np.int64)
    wall_ns = 0
    target = statistics.first_check(scenario)
    reason = None
    with collector_off():
        while reason is None:
            size = min(target - len(caller), BLOCK_LAPS)
            laps = array("q", bytes(8 * size))
            owns = array("q", bytes(8 * size if own else 0))
            left_ns = int(scenario.max_duration_s * 1e9) - wall_ns
            before = now_ns()
            done = _block(infer, own, calls, laps, owns, now_ns, before + left_ns)
            wall_ns += now_ns() - before
            caller = np.append(caller, np.frombuffer(laps, np.int64, done))
            runtime = np.append(runtime, np.frombuffer(owns, np.int64, done if own else 0))
            if len(caller) >= target or done < size or wall_ns >= scenario.max_duration_s * 1e9:
                reason = statistics.reason_to_stop(caller, wall_ns / 1e9, scenario)
                target = statistics.next_check(max(target, len(caller)))
    clocks.require_agreement(float(caller.sum()), wall_ns, len(caller), clock)
    clocks.require_long_enough(float(np.median(caller)), calls, clock)
    return Laps(caller // calls, runtime if own else None, calls, reason, wall_ns)


def _block(
    infer: Infer,
    own: Optional[OwnNs],
    calls: int,
    laps: Integers,
    owns: Integers,
    now_ns: NowNs,
    deadline: int,
) -> int:
    """Fill ``laps`` in place; how many were filled before ``deadline``. Three loops, not one with
    branches: a branch inside would be timed against the shortest models."""
    if calls > 1:
        return _batched(infer, calls, laps, now_ns, deadline)
    if own is None:
        return _single(infer, laps, now_ns, deadline)
    return _single_with_own(infer, own, laps, owns, now_ns, deadline)


def _single(infer: Infer, laps: Integers, now_ns: NowNs, deadline: int) -> int:
    for index in range(len(laps)):
        start = now_ns()
        infer()
        stop = now_ns()
        laps[index] = stop - start
        if stop >= deadline:
            return index + 1
    return len(laps)


def _single_with_own(
    infer: Infer, own: OwnNs, laps: Integers, owns: Integers, now_ns: NowNs, deadline: int
) -> int:
    for index in range(len(laps)):
        start = now_ns()
        infer()
        stop = now_ns()
        laps[index] = stop - start
        owns[index] = own()
        if stop >= deadline:
            return index + 1
    return len(laps)


def _batched(infer: Infer, calls: int, laps: Integers, now_ns: NowNs, deadline: int) -> int:
    times = range(calls)
    for index in range(len(laps)):
        start = now_ns()
        for _ in times:
            infer()
        stop = now_ns()
        laps[index] = stop - start
        if stop >= deadline:
            return index + 1
    return len(laps)


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection inside; what there is now is set aside from later collections too."""
    was_on = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()
