"""All formats in which a device can run a model, and a sweep that measures them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import yaml

from agent.contract.conversion_graph import Edge, Node, cheapest, usable
from agent.contract.device import RuntimeFacts
from orchestrator.domain.placement import PlacementDevice, PlacementModel

SCENARIO = {"min_duration_s": 0.5, "max_duration_s": 3.0, "min_samples": 100}


@dataclass(frozen=True)
class FormatOption:
    """One format under one runtime; ``via``: the converter, if not that of the cheapest way."""

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
    """Every format that a runtime of the device loads, once for each converter that makes it.

    ``tuning_trials`` above 0 adds tuned variants of the formats that TVM loads.
    """
    options: list[FormatOption] = []
    for facts in device.runtimes:
        if facts.missing or not facts.targets:
            continue
        target = facts.targets[0]
        for precision in (p for p in precisions if p in target.precisions):
            for node in facts.wants.get(precision, ()):
                for via in _routes(device, model, facts, node):
                    option = FormatOption(
                        facts.backend, facts.version, target.name, precision, node[0], via
                    )
                    options.append(option)
                    if tuning_trials and node[0] == "tvm_library":
                        options.append(replace(option, tuning_trials=tuning_trials))
    return list(dict.fromkeys(options))


def _routes(
    device: PlacementDevice, model: PlacementModel, facts: RuntimeFacts, node: Node
) -> Iterator[str]:
    """The empty string for the cheapest way, then each other converter that makes ``node``."""
    edges = usable(device.tools)
    way = cheapest(edges, model.sources, (node,), home=facts.environment)
    if way is None:
        return
    yield ""
    converters = sorted(
        {edge.converter for edge in edges if edge.target == node} - _last_converter(way)
    )
    for converter in converters:
        other = cheapest(edges, model.sources, (node,), (converter,), facts.environment)
        if (
            other is not None
            and _last_converter(other) == {converter}
            and not _repeats_a_format(other)
        ):
            yield converter


def _last_converter(way: Sequence[Edge]) -> set[str]:
    return {way[-1].converter} if way else set()


def _repeats_a_format(way: Sequence[Edge]) -> bool:
    """Whether a format occurs twice, which makes the way longer but gives no other result."""
    seen = [way[0].source, *(edge.target for edge in way)]
    return len({name for name, _ in seen}) < len(seen)


def sweep(name: str, device: str, model: str, options: Sequence[FormatOption], trials: int) -> str:
    """The YAML of a sweep that measures the options."""
    runtimes = []
    for option in options:
        entry: dict[str, object] = {
            "backend": option.backend,
            "version": option.version,
            "target": option.target,
            "precision": option.precision,
            "format": option.format,
        }
        if option.via:
            entry["via"] = option.via
        if option.tuning_trials:
            entry["options"] = {"tuning": "metaschedule", "tuning_trials": option.tuning_trials}
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
