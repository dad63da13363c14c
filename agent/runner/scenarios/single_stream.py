"""One caller: the next inference starts when the last has finished. A batch is one inference."""

from __future__ import annotations

from typing import Any, List

from agent.contract.trial import Clock, Scenario
from agent.runner import timing_loop
from agent.runner.clock import NowNs
from agent.runtimes.backend import OwnLatency, RawSamples, Session


def measure(
    session: Session, pilot_ns: List[int], scenario: Scenario, clock: Clock, now_ns: NowNs
) -> RawSamples:
    """Time back-to-back inferences; see ``timing_loop.measure``."""
    reporter: Any = session
    own_latency_ns = reporter.own_latency_ns if isinstance(session, OwnLatency) else None
    return timing_loop.measure(session.infer, own_latency_ns, pilot_ns, scenario, clock, now_ns)
