"""The timed loop of several requests in flight: as many as the queue takes."""

from __future__ import annotations

import numpy as np

from agent import statistics
from agent.contract.failures import ClockError
from agent.contract.trial import Clock, Scenario
from agent.runner import clock as clocks
from agent.runner.clock import NowNs
from agent.runner.timing_loop import BLOCK_LAPS, collector_off
from agent.runtimes.backend import Laps, RequestQueue


def measure_queue(queue: RequestQueue, scenario: Scenario, clock: Clock, now_ns: NowNs) -> Laps:
    """Keep ``queue`` full until ``stopping`` is content or the maximum time is over.

    Samples are latencies of requests, in the order of their ends; throughput is their number over
    the wall time. Before each look at the samples the queue is let run empty, which is counted: it
    makes the throughput of short measurements a little lower than it could be, never higher.

    Raises:
        ClockError: requests too short for this clock, or longer than the wall time allows.
    """
    wall_ns, target, reason = 0, statistics.first_check(scenario), None
    limit_ns = int(scenario.max_duration_s * 1e9)
    caller = np.empty(0, dtype=np.int64)
    with collector_off():
        while reason is None:
            size = min(target - len(caller), BLOCK_LAPS)
            before = now_ns()
            deadline = before + limit_ns - wall_ns
            for _ in range(size):
                queue.submit()
                if now_ns() >= deadline:
                    break
            queue.drain()
            wall_ns += now_ns() - before
            caller = np.array(queue.caller_ns, dtype=np.int64)
            if len(caller) >= target or wall_ns >= limit_ns:
                reason = statistics.reason_to_stop(caller, wall_ns / 1e9, scenario)
                target = statistics.next_check(max(target, len(caller)))
    clocks.require_long_enough(float(np.median(caller)), 1, clock)
    _require_room(float(caller.sum()), wall_ns, queue.depth)
    runtime = np.array(queue.runtime_ns, dtype=np.int64) if queue.runtime_ns else None
    return Laps(caller, runtime, 1, reason, wall_ns)


def _require_room(sum_ns: float, wall_ns: float, depth: int) -> None:
    """Little's law: latencies cannot add up to more than ``depth`` times the wall time.

    Raises:
        ClockError: they do.
    """
    if sum_ns > 1.05 * depth * wall_ns:
        raise ClockError(
            "latencies sum to %.3f ms, but %d requests in flight for %.3f ms have room for less"
            % (sum_ns / 1e6, depth, wall_ns / 1e6)
        )
