"""Time limits that a sweep's own scenario runs into."""

from __future__ import annotations

from orchestrator.domain.placement import Placement
from orchestrator.domain.spec import SweepSpec
from orchestrator.service.sweeps import cells
from orchestrator.store.tables import Device


def if_in_time(placement: Placement, spec: SweepSpec, device: Device) -> Placement:
    """Skip a placement whose every trial the limit that holds on its device would end."""
    limit_s, shortest_s = cells.limits_on(spec, device).trial_s, spec.scenario.shortest_s
    if placement.skip or limit_s > shortest_s:
        return placement
    why = (
        f"limits.trial_s is {limit_s:g} s here, and the scenario's warm-up and shortest "
        f"measurement take {shortest_s:g} s: every trial would be ended; raise it"
    )
    return Placement(placement.device, placement.configuration, skip=why)


def notes(spec: SweepSpec) -> list[str]:
    """What a plan says of a limit that ends the longest measurements."""
    needed_s = spec.scenario.warm_up_s + spec.scenario.max_duration_s
    if needed_s < spec.limits.trial_s:
        return []
    return [
        f"scenario.warm_up_s and max_duration_s take up to {needed_s:g} s, and limits.trial_s "
        f"stops a trial after {spec.limits.trial_s:g} s: raise limits.trial_s above that sum"
    ]
