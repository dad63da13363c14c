"""All work is there at once: as many requests in flight as the session takes.

A session that runs one request at a time is measured like a single stream. A batch is one request.
"""

from __future__ import annotations

from typing import List

import numpy as np

from agent import statistics
from agent.contract.failures import ClockError
from agent.contract.trial import Clock, Scenario
from agent.runner import clock as clocks
from agent.runner.clock import NowNs
from agent.runner.scenarios import single_stream
from agent.runner.timing_loop import BLOCK_SAMPLES, collector_off
from agent.runtimes.backend import AsyncThroughput, RawSamples, RequestQueue, Session


def measure(
    session: Session, pilot_ns: List[int], scenario: Scenario, clock: Clock, now_ns: NowNs
) -> RawSamples:
    """Time requests through the session's queue, or single inferences where it has none."""
    if not isinstance(session, AsyncThroughput):
        return single_stream.measure(session, pilot_ns, scenario, clock, now_ns)
    queue = session.request_queue()
    for _ in range(2 * queue.depth):  # the warm-up ran single inferences, not these requests
        queue.submit()
    queue.drain()
    return measure_queue(session.request_queue(), scenario, clock, now_ns)


def measure_queue(
    queue: RequestQueue, scenario: Scenario, clock: Clock, now_ns: NowNs
) -> RawSamples:
    """Keep ``queue`` full until ``statistics.reason_to_stop`` gives a reason.

    A sample is the latency of one request, in the order of completion; throughput is their number
    over the wall time. The queue is drained before each check of the samples, and that time counts:
    the throughput of a short measurement comes out a little low, never high.

    Raises:
        ClockError: requests too short for this clock, or longer than the wall time allows.
    """
    wall_ns, target, reason = 0, statistics.first_check(scenario), None
    limit_ns = int(scenario.max_duration_s * 1e9)
    caller = np.empty(0, dtype=np.int64)
    with collector_off():
        while reason is None:
            size = min(target - len(caller), BLOCK_SAMPLES)
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
    _require_latencies_fit(float(caller.sum()), wall_ns, queue.depth)
    runtime = np.array(queue.runtime_ns, dtype=np.int64) if queue.runtime_ns else None
    return RawSamples(caller, runtime, 1, reason, wall_ns)


def _require_latencies_fit(sum_ns: float, wall_ns: float, depth: int) -> None:
    """Little's law: latencies cannot add up to more than ``depth`` times the wall time.

    Raises:
        ClockError: they do.
    """
    if sum_ns > 1.05 * depth * wall_ns:
        raise ClockError(
            "latencies sum to %.3f ms, but %d requests in flight for %.3f ms have room for less"
            % (sum_ns / 1e6, depth, wall_ns / 1e6)
        )
