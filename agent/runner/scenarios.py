"""Kinds of load, by name: each a function from a session to laps."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

from agent.contract.failures import BadOption, UnsupportedScenario, listed
from agent.contract.trial import Clock, Scenario
from agent.runner.async_timing_loop import measure_queue
from agent.runner.clock import NowNs
from agent.runner.timing_loop import measure
from agent.runtimes.backend import AsyncThroughput, Laps, OwnLatency, Session

Loop = Callable[[Session, List[int], Scenario, Clock, NowNs], Laps]


def single_stream(
    session: Session, pilot_ns: List[int], scenario: Scenario, clock: Clock, now_ns: NowNs
) -> Laps:
    """One caller, the next inference when the last has finished; a batch counts as one."""
    reporter: Any = session
    own = reporter.own_latency_ns if isinstance(session, OwnLatency) else None
    return measure(session.infer, own, pilot_ns, scenario, clock, now_ns)


def offline(
    session: Session, pilot_ns: List[int], scenario: Scenario, clock: Clock, now_ns: NowNs
) -> Laps:
    """As much as there is to do at once: several requests in flight where the session can, else
    back to back; a batch counts as one request."""
    if not isinstance(session, AsyncThroughput):
        return single_stream(session, pilot_ns, scenario, clock, now_ns)
    queue = session.request_queue()
    for _ in range(2 * queue.depth):  # the warm-up was of another request
        queue.submit()
    queue.drain()
    return measure_queue(session.request_queue(), scenario, clock, now_ns)


LOOPS: Dict[str, Loop] = {"single_stream": single_stream, "offline": offline}


def loop_of(scenario: Scenario) -> Loop:
    """The loop for ``scenario``, checked before anything is loaded.

    Raises:
        UnsupportedScenario: a kind that has no loop.
        BadOption: bounds that no trial can meet; says which and what would do.
    """
    if scenario.kind not in LOOPS:
        raise UnsupportedScenario(
            "scenario kind %r is not supported; accepted: %s" % (scenario.kind, listed(LOOPS))
        )
    if scenario.concurrency != 1:
        raise BadOption(
            "scenario %s takes concurrency 1, not %d" % (scenario.kind, scenario.concurrency)
        )
    accepted = (
        ("batch_size", scenario.batch_size >= 1, "at least 1"),
        ("percentile", 0.0 < scenario.percentile < 100.0, "between 0 and 100, both excluded"),
        ("target_relative_ci", scenario.target_relative_ci > 0.0, "above 0"),
        ("max_duration_s", scenario.max_duration_s > 0.0, "above 0"),
    )
    for name, fine, wanted in accepted:
        if not fine:
            raise BadOption(
                "scenario %s is %r; it must be %s" % (name, getattr(scenario, name), wanted)
            )
    return LOOPS[scenario.kind]
