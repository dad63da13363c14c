"""Placement: which configurations a device can run, and why it cannot run the others. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.contract import versions
from agent.contract.conversion_graph import (
    Node,
    Tool,
    cheapest_path,
    missing_tools,
    needs,
    tools_on_path,
    usable,
)
from agent.contract.device import RuntimeFacts
from agent.contract.trial import Options
from agent.runtimes.formats import SOURCES, precisions, told_by_file
from orchestrator.domain import builders as builder_rules
from orchestrator.domain import other_ways
from orchestrator.domain.builders import BuilderDevice, PlannedBuild
from orchestrator.domain.matrix import Configuration
from orchestrator.domain.selectors import matches
from orchestrator.domain.spec import DeviceChoice


@dataclass(frozen=True)
class PlacementDevice:
    """The data of a device that placement needs. ``labels`` holds name, class and tags;
    ``drain_note``: why it is not enabled; ``retired``: it has left the farm."""

    name: str
    labels: Mapping[str, str]
    enabled: bool
    runtimes: tuple[RuntimeFacts, ...] = ()
    tools: tuple[Tool, ...] = ()
    machine: str = ""
    drain_note: str = ""
    retired: bool = False


def sources_of(files: Iterable[tuple[str, str]]) -> tuple[Node, ...]:
    """The start nodes of a model's (format, precision) files, in the order of formats. If a file's
    precision is unknown (empty), it is the one that the agent will take: any of its format where
    that reads it from the file."""
    ordered = sorted(files, key=lambda file: SOURCES.index(file[0]))
    return tuple(
        (name, precision)
        for name, known in ordered
        for precision in (
            [known] if known else precisions(name)[: None if told_by_file(name) else 1]
        )
    )


def _possible(file_format: str) -> tuple[str, ...]:
    return precisions(file_format) if told_by_file(file_format) else precisions(file_format)[:1]


@dataclass(frozen=True)
class PlacementModel:
    """The data of a model that placement needs.

    ``sources``: the (format, precision) of each file. ``free_batch``: the leading dimension is
    free, so that batch sizes other than 1 can run.
    """

    name: str
    sources: tuple[Node, ...]
    free_batch: bool
    has_calibration: bool
    has_dataset: bool = False


@dataclass(frozen=True)
class Placement:
    """A configuration on a device: the source file's format and the runtime's version, or ``skip``,
    the reason why it does not run.

    ``build``: a conversion that a builder makes first. ``build_options`` are the configuration's
    options for the builder's converters, ``options`` those for the device.
    """

    device: str
    configuration: Configuration
    format: str = ""
    version: str = ""
    skip: str = field(default="")
    build: PlannedBuild | None = None
    build_options: Options = field(default_factory=dict)
    options: Options = field(default_factory=dict)


@dataclass(frozen=True)
class _Route:
    """A conversion: the file that it starts from, the device's converters and the builder's."""

    start: Node
    tools: Sequence[Tool]
    build: PlannedBuild | None = None
    builder_tools: Sequence[Tool] = ()


Ways = dict[tuple[str, ...], _Route | str]
"""A cache of conversions by all that they depend on: many cells differ only in threads or
options."""


def chosen(devices: Iterable[PlacementDevice], choice: DeviceChoice) -> list[PlacementDevice]:
    """The devices selected by ``choice``, by name. One that is retired is chosen only where it is
    named: it has left the farm, and keeps its tags for the day on which it comes back."""
    return sorted(
        (
            d
            for d in devices
            if (d.name in choice.names if choice.names else not d.retired)
            and matches(choice.select, d.labels)
        ),
        key=lambda d: d.name,
    )


def out_of_service(device: PlacementDevice) -> str:
    """Why no configuration at all can be placed on the device; empty where some may be.

    Each of these reasons passes: the same sweep, resumed, may find the device in service.
    """
    if device.retired:
        return f"the device is retired; `benchfarm device add {device.name}` brings it back"
    if not device.enabled:
        note = f' ("{device.drain_note}")' if device.drain_note else ""
        return f"the device is drained{note}; `benchfarm device enable {device.name}`"
    if not device.runtimes:
        return "the device has not said yet what it can run; start `benchfarm-agent run` there"
    return ""


def place(
    device: PlacementDevice,
    configuration: Configuration,
    model: PlacementModel,
    builders: Sequence[BuilderDevice] = (),
    known: Ways | None = None,
) -> Placement:
    """Place one configuration. The device converts the model itself if it can, else a builder does.

    ``known`` is a cache that is kept from cell to cell.
    """
    why = out_of_service(device)
    if why:
        return _skip(device, configuration, why)
    facts, why = _runtime(device, configuration)
    if facts is None:
        return _skip(device, configuration, why)
    why = _target_refusal(facts, configuration)
    if why:
        return _skip(device, configuration, why)
    elsewhere = [builder for builder in builders if builder.name != device.name]
    known = {} if known is None else known
    key = (
        *(device.name, facts.backend, facts.version, facts.environment, model.name),
        *(configuration.precision, configuration.format, configuration.via),
    )
    if key not in known:
        known[key] = _route(device, facts, configuration, model, elsewhere)
    found = known[key]
    if isinstance(found, str):
        return _skip(device, configuration, found)
    tools = [*found.tools, *found.builder_tools]
    reason = _option_refusal(facts, tools, configuration) or _model_refusal(
        tools, configuration, model, found.builder_tools
    )
    if reason:
        return _skip(device, configuration, reason)
    given = dict(configuration.options)
    builder_keys = {key for tool in found.builder_tools for key in tool.options}
    own_keys = {*facts.options, *(key for tool in found.tools for key in tool.options)}
    return Placement(
        device.name,
        configuration,
        format=found.start[0],
        version=facts.version,
        build=found.build,
        build_options={key: value for key, value in given.items() if key in builder_keys},
        options={key: value for key, value in given.items() if key in own_keys},
    )


def distinct(placements: Iterable[Placement]) -> list[Placement]:
    """Drop duplicates: ``2026`` and ``2026.4.1``, for example, may select the same version on a
    device."""
    found: dict[str, Placement] = {}
    for placement in placements:
        version = placement.version or placement.configuration.version
        # compared by repr: in Python True == 1 == 1.0, but as a runtime's options they differ
        same = replace(placement.configuration, version=version)
        found.setdefault(repr((placement.device, same)), placement)
    return list(found.values())


def _runtime(
    device: PlacementDevice, configuration: Configuration
) -> tuple[RuntimeFacts | None, str]:
    candidates = [r for r in device.runtimes if r.backend == configuration.backend]
    working = [r for r in candidates if not r.missing]
    # The device lists the runtimes of a backend in order of preference; it takes the first fitting
    # one, too.
    fitting = [r for r in working if versions.fits(r.version, configuration.version)]
    if fitting:
        return fitting[0], ""
    if working:
        have = ", ".join(r.version for r in working)
        return None, (
            f"{configuration.backend} {configuration.version} is not there (it has {have}); there, "
            f"`benchfarm-agent runtimes add {configuration.backend}=={configuration.version}`"
        )
    if candidates:
        return None, f"{configuration.backend}: {candidates[0].missing}"
    return None, f"the agent there knows no backend {configuration.backend!r}"


def _target_refusal(facts: RuntimeFacts, configuration: Configuration) -> str:
    target = next((t for t in facts.targets if t.name == configuration.target), None)
    if target is None:
        known = ", ".join(t.name for t in facts.targets) or "none"
        return f"{facts.backend} has no target {configuration.target} here (it has {known})"
    runs = target.runs or target.precisions
    if configuration.precision not in runs:
        return (
            f"{facts.backend} on {target.name} has no {configuration.precision} here "
            f"(it has {', '.join(runs)})"
        )
    return ""


def _route(
    device: PlacementDevice,
    facts: RuntimeFacts,
    configuration: Configuration,
    model: PlacementModel,
    builders: Sequence[BuilderDevice],
) -> _Route | str:
    """The cheapest conversion to a format that the runtime loads, which the devices will plan
    likewise; or, as text, why there is none and which tool is missing where."""
    wants = facts.wants.get(configuration.precision, ())
    goals = [node for node in wants if configuration.format in ("", node[0])]
    if not goals:
        known = ", ".join(dict.fromkeys(name for name, _ in wants)) or "nothing"
        return (
            f"{facts.backend} loads no {configuration.format or 'format'} in "
            f"{configuration.precision} (it loads {known})"
        )
    via = configuration.passes
    way = cheapest_path(usable(device.tools), model.sources, goals, via, facts.environment)
    if way is not None:
        start = way[0].source if way else next(g for g in goals if g in model.sources)
        return _Route(start, tools_on_path(way, device.tools))
    home, machine = facts.environment, device.machine
    build = builder_rules.build(builders, device.tools, model.sources, goals, via, home, machine)
    if build is not None:
        tools = next(builder.tools for builder in builders if builder.name == build.builder)
        here = tools_on_path(build.rest, device.tools)
        return _Route(build.source, here, build, tools_on_path(build.way, tools))
    have = ", ".join(map(builder_rules.words, model.sources))
    wanted = " or ".join(dict.fromkeys(name for name, _ in goals))
    words = f"model {model.name} is there as {have}; {facts.backend} takes {wanted} in "
    words += configuration.precision + (f", through {', '.join(via)}" if via else "")
    known_tools = [*device.tools, *(tool for builder in builders for tool in builder.tools)]
    lacks = missing_tools(device.tools, model.sources, goals, via)
    if not lacks and missing_tools(known_tools, model.sources, goals, via) is None:
        as_it_is = _as_it_is(facts, configuration, model)
        nearest = "" if via else other_ways.in_words(known_tools, model.sources, goals)
        return f"{words}: no converter leads there{as_it_is}{nearest}"
    shortfall = f"lacks a tool: {needs(lacks)}" if lacks else "has no way there"
    return (
        f"{words}: {device.name} {shortfall} ({other_ways.adding(lacks or ())} there); "
        f"{builder_rules.why_not(builders, device.tools, model.sources, goals, via)}"
    )


def _as_it_is(facts: RuntimeFacts, configuration: Configuration, model: PlacementModel) -> str:
    """How to ask for the model's files as they are, where the runtime loads one; else empty."""
    loaded = [
        precision
        for precision, wants in facts.wants.items()
        if any(node in model.sources and configuration.format in ("", node[0]) for node in wants)
    ]
    return f"; ask for the file as it is: precision: [{', '.join(loaded)}]" if loaded else ""


def _option_refusal(
    facts: RuntimeFacts, tools: Sequence[Tool], configuration: Configuration
) -> str:
    """An option must belong to the runtime or to a converter on the way."""
    known = dict(facts.options)
    for tool in tools:
        known.update(tool.options)
    for key, value in configuration.options:
        accepted = known.get(key)
        if accepted is None:
            names = ", ".join(known) or "none"
            return f"{facts.backend} has no option {key!r} (it has {names})"
        if accepted and _as_text(value, accepted) not in accepted:
            return f"option {key}: {value!r} is not one of {', '.join(accepted)}"
    return ""


def _as_text(value: object, accepted: tuple[str, ...]) -> str:
    """An option's value as text; YAML reads ``on`` and ``off`` as booleans."""
    if isinstance(value, bool):
        return ("on" if value else "off") if "on" in accepted else str(value).lower()
    return str(value)


def _model_refusal(
    tools: Sequence[Tool],
    configuration: Configuration,
    model: PlacementModel,
    builder_tools: Sequence[Tool],
) -> str:
    if configuration.batch_size != 1 and not model.free_batch:
        return (
            f"batch size {configuration.batch_size}: model {model.name} was exported with fixed "
            "shapes; export it with a free first dimension"
        )
    fixing = [tool.name for tool in builder_tools if "dynamic_shapes" not in tool.keeps]
    if configuration.batch_size != 1 and fixing:
        return (
            f"batch size {configuration.batch_size}: a builder makes the file by {fixing[0]}, "
            "which fixes the shapes, for batch size 1; let the device convert it itself"
        )
    calibrates = any(tool.needs_calibration for tool in tools)
    if calibrates and configuration.calibration == "dataset" and not model.has_calibration:
        lacks = (
            f"the data set of model {model.name} has no calibration samples"
            if model.has_dataset
            else f"model {model.name} has no data set"
        )
        return (
            f"int8 needs calibration data and {lacks}; "
            "say `calibration: random` to quantise on random inputs (marked in the report)"
        )
    return ""


def _skip(device: PlacementDevice, configuration: Configuration, reason: str) -> Placement:
    return Placement(device.name, configuration, skip=reason)
