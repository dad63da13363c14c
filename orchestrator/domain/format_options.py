"""Every form that a model can take on a device: what to measure to choose among them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import yaml

from agent.contract.conversion_graph import Edge, Node, cheapest_path, usable
from agent.contract.device import RuntimeFacts
from orchestrator.domain.placement import PlacementDevice, PlacementModel

SCENARIO = {"min_duration_s": 0.5, "max_duration_s": 3.0, "min_samples": 100}


@dataclass(frozen=True)
class FormatOption:
    """One format under one runtime; ``via`` where it is made otherwise than the cheapest way."""

    backend: str
    version: str
    target: str
    precision: str
    format: str
    via: str = ""
    tuning_trials: int = 0


def forms(
    device: PlacementDevice,
    model: PlacementModel,
    precisions: Sequence[str],
    tuning_trials: int = 0,
) -> list[FormatOption]:
    """Every format that a runtime of the device loads, by every route that leads to it.

    A route is told from another by the converter that makes the format. ``tuning_trials`` above 0
    adds the tuned form of what TVM loads.
    """
    found: list[FormatOption] = []
    for facts in device.runtimes:
        if facts.missing or not facts.targets:
            continue
        target = facts.targets[0]
        for precision in (p for p in precisions if p in target.precisions):
            for node in facts.wants.get(precision, ()):
                for via in _routes(device, model, facts, node):
                    form = FormatOption(
                        facts.backend, facts.version, target.name, precision, node[0], via
                    )
                    found.append(form)
                    if tuning_trials and node[0] == "tvm_library":
                        found.append(replace(form, tuning_trials=tuning_trials))
    return list(dict.fromkeys(found))


def _routes(
    device: PlacementDevice, model: PlacementModel, facts: RuntimeFacts, node: Node
) -> Iterator[str]:
    """Empty for the cheapest way, then the other converters that make ``node``."""
    edges = usable(device.tools)
    way = cheapest_path(edges, model.sources, (node,), home=facts.environment)
    if way is None:
        return
    yield ""
    makers = sorted({edge.converter for edge in edges if edge.target == node} - _last(way))
    for maker in makers:
        other = cheapest_path(edges, model.sources, (node,), (maker,), facts.environment)
        if other is not None and _last(other) == {maker} and not _turns_back(other):
            yield maker


def _last(way: Sequence[Edge]) -> set[str]:
    return {way[-1].converter} if way else set()


def _turns_back(way: Sequence[Edge]) -> bool:
    """Whether it comes through a format twice: that is no other form, only a longer way to it."""
    seen = [way[0].source, *(edge.target for edge in way)]
    return len({form for form, _ in seen}) < len(seen)


def sweep(name: str, device: str, model: str, found: Sequence[FormatOption], trials: int) -> str:
    """The sweep that measures them, as a spec's YAML."""
    runtimes = []
    for form in found:
        entry: dict[str, object] = {
            "backend": form.backend,
            "version": form.version,
            "target": form.target,
            "precision": form.precision,
            "format": form.format,
        }
        if form.via:
            entry["via"] = form.via
        if form.tuning_trials:
            entry["options"] = {"tuning": "metaschedule", "tuning_trials": form.tuning_trials}
        runtimes.append(entry)
    return yaml.safe_dump(
        {
            "name": name,
            "models": [model],
            "devices": {"names": [device]},
            "runtimes": runtimes,
            "trials": trials,
            "scenario": SCENARIO,
            "limits": {"convert_s": 3600.0},
        },
        sort_keys=False,
    )
