"""The load scenarios, one file each: the file's name is the kind that a sweep asks for.

Each file has a function ``measure`` of type ``Loop``. Nothing is listed anywhere else:
``agent.contract.scenarios`` reads the names from this folder, and the spec accepts those.
"""

from __future__ import annotations

import importlib
from typing import Callable, List

from agent.contract.failures import BadOption, UnsupportedScenario, listed
from agent.contract.scenarios import SCENARIO_KINDS
from agent.contract.trial import Clock, Scenario
from agent.runner.clock import NowNs
from agent.runtimes.backend import RawSamples, Session

Loop = Callable[[Session, List[int], Scenario, Clock, NowNs], RawSamples]
"""(session, pilot times in ns, scenario, the clock's properties, clock) → samples. The session is
bound and warmed up; the pilot times are those of the warm-up's last single calls."""


def find_loop(scenario: Scenario) -> Loop:
    """The loop of ``scenario.kind``; call it before anything is loaded.

    Raises:
        UnsupportedScenario: no such kind; names those there are.
        BadOption: a bound that no trial can meet; says which, and what is accepted.
    """
    if scenario.kind not in SCENARIO_KINDS:
        raise UnsupportedScenario(
            "scenario kind %r is not supported; accepted: %s"
            % (scenario.kind, listed(SCENARIO_KINDS))
        )
    if scenario.concurrency != 1:
        raise BadOption(
            "scenario %s takes concurrency 1, not %d" % (scenario.kind, scenario.concurrency)
        )
    bounds = (
        ("batch_size", scenario.batch_size >= 1, "at least 1"),
        ("percentile", 0.0 < scenario.percentile < 100.0, "between 0 and 100, both excluded"),
        ("target_relative_ci", scenario.target_relative_ci > 0.0, "above 0"),
        ("max_duration_s", scenario.max_duration_s > 0.0, "above 0"),
    )
    for name, holds, accepted in bounds:
        if not holds:
            raise BadOption(
                "scenario %s is %r; it must be %s" % (name, getattr(scenario, name), accepted)
            )
    loop: Loop = importlib.import_module("%s.%s" % (__name__, scenario.kind)).measure
    return loop
