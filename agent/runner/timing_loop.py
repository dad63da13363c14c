"""The timed loop: between the two clock readings of a sample stands ``infer()``, nothing else."""

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
from agent.runtimes.backend import RawSamples

Infer = Callable[[], None]
OwnLatencyNs = Callable[[], int]
Integers = MutableSequence[int]
"""An ``array("q")`` allocated before the loop: a list would keep 40 bytes for each sample."""

PILOT_KEPT = 64
PILOT_CALLS = 16
PILOT_NS = 10_000_000
BLOCK_SAMPLES = 65_536
"""Most samples between two checks of the stopping rule; it bounds the memory allocated ahead."""


def warm_up(infer: Infer, seconds: float, now_ns: NowNs) -> List[int]:
    """Infer for ``seconds``, at least once; the times of the last calls, in ns, as a pilot.

    The clock guard needs ``PILOT_CALLS`` pilot times; a short warm-up is extended by up to
    ``PILOT_NS`` to get them.
    """
    times_ns: Deque[int] = deque(maxlen=PILOT_KEPT)
    end = now_ns() + int(seconds * 1e9)
    while True:
        start = now_ns()
        infer()
        stop = now_ns()
        times_ns.append(stop - start)
        if stop >= end and (len(times_ns) >= PILOT_CALLS or stop >= end + PILOT_NS):
            return list(times_ns)


def measure(
    infer: Infer,
    own_latency_ns: Optional[OwnLatencyNs],
    pilot_ns: List[int],
    scenario: Scenario,
    clock: Clock,
    now_ns: NowNs,
) -> RawSamples:
    """Time back-to-back calls until ``statistics.reason_to_stop`` gives a reason.

    Args:
        own_latency_ns: latency of the last inference as the runtime reports it; read outside of the
            timed region.
        pilot_ns: times of single calls just before, for the clock guard.

    Raises:
        ClockError: an inference too short for this clock, or samples that do not fill the wall
            time.
    """
    calls = clocks.calls_per_sample(pilot_ns, clock)
    own = own_latency_ns if calls == 1 else None
    caller = np.empty(0, dtype=np.int64)
    runtime = np.empty(0, dtype=np.int64)
    wall_ns = 0
    target = statistics.first_check(scenario)
    reason = None
    with collector_off():
        while reason is None:
            size = min(target - len(caller), BLOCK_SAMPLES)
            times = array("q", bytes(8 * size))
            own_times = array("q", bytes(8 * size if own else 0))
            left_ns = int(scenario.max_duration_s * 1e9) - wall_ns
            before = now_ns()
            done = _block(infer, own, calls, times, own_times, now_ns, before + left_ns)
            wall_ns += now_ns() - before
            caller = np.append(caller, np.frombuffer(times, np.int64, done))
            runtime = np.append(runtime, np.frombuffer(own_times, np.int64, done if own else 0))
            if len(caller) >= target or done < size or wall_ns >= scenario.max_duration_s * 1e9:
                reason = statistics.reason_to_stop(caller, wall_ns / 1e9, scenario)
                target = statistics.next_check(max(target, len(caller)))
    clocks.require_agreement(float(caller.sum()), wall_ns, len(caller), clock)
    clocks.require_long_enough(float(np.median(caller)), calls, clock)
    return RawSamples(caller // calls, runtime if own else None, calls, reason, wall_ns)


def _block(
    infer: Infer,
    own: Optional[OwnLatencyNs],
    calls: int,
    times: Integers,
    own_times: Integers,
    now_ns: NowNs,
    deadline: int,
) -> int:
    """Fill ``times`` in place; how many were filled before ``deadline``.

    Three loops instead of one with branches: a branch inside would be timed, and shows in the
    latency of the shortest models.
    """
    if calls > 1:
        return _batched(infer, calls, times, now_ns, deadline)
    if own is None:
        return _single(infer, times, now_ns, deadline)
    return _single_with_own(infer, own, times, own_times, now_ns, deadline)


def _single(infer: Infer, times: Integers, now_ns: NowNs, deadline: int) -> int:
    for index in range(len(times)):
        start = now_ns()
        infer()
        stop = now_ns()
        times[index] = stop - start
        if stop >= deadline:
            return index + 1
    return len(times)


def _single_with_own(
    infer: Infer,
    own: OwnLatencyNs,
    times: Integers,
    own_times: Integers,
    now_ns: NowNs,
    deadline: int,
) -> int:
    for index in range(len(times)):
        start = now_ns()
        infer()
        stop = now_ns()
        times[index] = stop - start
        own_times[index] = own()
        if stop >= deadline:
            return index + 1
    return len(times)


def _batched(infer: Infer, calls: int, times: Integers, now_ns: NowNs, deadline: int) -> int:
    repeats = range(calls)
    for index in range(len(times)):
        start = now_ns()
        for _ in repeats:
            infer()
        stop = now_ns()
        times[index] = stop - start
        if stop >= deadline:
            return index + 1
    return len(times)


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection inside; objects that exist now are exempt from later ones as well."""
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
