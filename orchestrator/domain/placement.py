"""Which cells a device can run, and why it cannot run the others. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent import versions
from agent.contract import RuntimeFacts
from agent.graph import Node, Tool, cheapest, lacking, usable
from orchestrator.domain.matrix import Configuration
from orchestrator.domain.selectors import matches
from orchestrator.domain.spec import DeviceChoice


@dataclass(frozen=True)
class DeviceView:
    """What placement needs to know of a device. ``labels`` holds name, class and tags."""

    name: str
    labels: Mapping[str, str]
    enabled: bool
    runtimes: tuple[RuntimeFacts, ...] = ()
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True)
class ModelView:
    """What placement needs to know of a model: its files and what its batch dimension allows.

    ``sources``: the (format, precision) of each file. ``free_batch``: the file leaves the leading
    dimension free, so other batch sizes can run.
    """

    name: str
    sources: tuple[Node, ...]
    free_batch: bool
    has_calibration: bool


@dataclass(frozen=True)
class Placement:
    """A configuration on a device: the artifact's format and the runtime's version, or ``skip``,
    the reason why it will not run there."""

    device: str
    configuration: Configuration
    format: str = ""
    version: str = ""
    skip: str = field(default="")


def chosen(devices: Iterable[DeviceView], choice: DeviceChoice) -> list[DeviceView]:
    """The devices that ``choice`` means, by name."""
    return sorted(
        (
            d
            for d in devices
            if (not choice.names or d.name in choice.names) and matches(choice.select, d.labels)
        ),
        key=lambda d: d.name,
    )


def place(device: DeviceView, configuration: Configuration, model: ModelView) -> Placement:
    """Decide one cell."""
    if not device.enabled:
        return _skip(device, configuration, "the device is disabled; `benchfarm device enable` it")
    facts, why = _runtime(device, configuration)
    if facts is None:
        return _skip(device, configuration, why)
    target = next((t for t in facts.targets if t.name == configuration.target), None)
    if target is None:
        known = ", ".join(t.name for t in facts.targets) or "none"
        return _skip(
            device,
            configuration,
            f"{facts.backend} has no target {configuration.target} here (it has {known})",
        )
    if configuration.precision not in target.precisions:
        known = ", ".join(target.precisions)
        return _skip(
            device,
            configuration,
            f"{facts.backend} on {target.name} has no {configuration.precision} here "
            f"(it has {known})",
        )
    found = _way(device, facts, configuration, model)
    if isinstance(found, str):
        return _skip(device, configuration, found)
    start, tools = found
    reason = _bad_option(facts, tools, configuration) or _unfit_model(tools, configuration, model)
    if reason:
        return _skip(device, configuration, reason)
    return Placement(device.name, configuration, format=start[0], version=facts.version)


def distinct(placements: Iterable[Placement]) -> list[Placement]:
    """Without those that would run what an earlier one runs: ``2026`` and ``2026.4.1``, say, where
    both mean one version on a device."""
    found: dict[str, Placement] = {}
    for placement in placements:
        version = placement.version or placement.configuration.version
        # by text: to Python True == 1 == 1.0, to a runtime's option they differ
        same = replace(placement.configuration, version=version)
        found.setdefault(repr((placement.device, same)), placement)
    return list(found.values())


def _runtime(device: DeviceView, configuration: Configuration) -> tuple[RuntimeFacts | None, str]:
    of_backend = [r for r in device.runtimes if r.backend == configuration.backend]
    working = [r for r in of_backend if not r.missing]
    # The device lists the runtimes of a backend as it prefers them: the first that fits is its own
    # choice too.
    fitting = [r for r in working if versions.fits(r.version, configuration.version)]
    if fitting:
        return fitting[0], ""
    if working:
        have = ", ".join(r.version for r in working)
        return None, (
            f"{configuration.backend} {configuration.version} is not there (it has {have}); there, "
            f"`benchfarm-agent runtimes add {configuration.backend}=={configuration.version}`"
        )
    if of_backend:
        return None, f"{configuration.backend}: {of_backend[0].missing}"
    if not device.runtimes:
        return (
            None,
            "the device has not said yet what it can run; start `benchfarm-agent run` there",
        )
    return None, f"the agent there knows no backend {configuration.backend!r}"


def _way(
    device: DeviceView, facts: RuntimeFacts, configuration: Configuration, model: ModelView
) -> tuple[Node, list[Tool]] | str:
    """The file to start from and the converters on the way to what the runtime loads, as the board
    itself will plan it; or why there is none."""
    wants = facts.wants.get(configuration.precision, ())
    goals = [node for node in wants if configuration.format in ("", node[0])]
    if not goals:
        known = ", ".join(dict.fromkeys(form for form, _ in wants)) or "nothing"
        return (
            f"{facts.backend} loads no {configuration.format or 'format'} in "
            f"{configuration.precision} (it loads {known})"
        )
    via = configuration.passes
    way = cheapest(usable(device.tools), model.sources, goals, via, facts.environment)
    if way is not None:
        start = way[0].source if way else next(g for g in goals if g in model.sources)
        used = {(edge.converter, edge.environment) for edge in way}
        return start, [tool for tool in device.tools if (tool.name, tool.environment) in used]
    have = ", ".join(
        form if held == "fp32" else f"{form} in {held}" for form, held in model.sources
    )
    wanted = " or ".join(dict.fromkeys(form for form, _ in goals))
    words = f"model {model.name} is there as {have}; {facts.backend} takes {wanted} in "
    words += configuration.precision + (f", through {', '.join(via)}" if via else "")
    lacks = lacking(device.tools, model.sources, goals, via)
    if not lacks:
        return f"{words}: no converter leads there"
    needs = "; ".join(f"{tool.name} needs {', '.join(tool.missing)}" for tool in lacks)
    return f"{words}: {device.name} lacks a tool: {needs} (`benchfarm-agent runtimes add` there)"


def _bad_option(facts: RuntimeFacts, tools: Sequence[Tool], configuration: Configuration) -> str:
    """Options are the runtime's or those of a converter on the way to it."""
    known = dict(facts.options)
    for tool in tools:
        known.update(tool.options)
    for key, value in configuration.options:
        accepted = known.get(key)
        if accepted is None:
            names = ", ".join(known) or "none"
            return f"{facts.backend} has no option {key!r} (it has {names})"
        if accepted and _as_written(value, accepted) not in accepted:
            return f"option {key}: {value!r} is not one of {', '.join(accepted)}"
    return ""


def _as_written(value: object, accepted: tuple[str, ...]) -> str:
    """YAML reads ``on`` and ``off`` as booleans: they are meant as written."""
    if isinstance(value, bool):
        return ("on" if value else "off") if "on" in accepted else str(value).lower()
    return str(value)


def _unfit_model(tools: Sequence[Tool], configuration: Configuration, model: ModelView) -> str:
    if configuration.batch_size != 1 and not model.free_batch:
        return (
            f"batch size {configuration.batch_size}: model {model.name} was exported with fixed "
            "shapes; export it with a free first dimension"
        )
    calibrates = any(tool.needs_calibration for tool in tools)
    if calibrates and configuration.calibration == "dataset" and not model.has_calibration:
        return (
            f"int8 needs calibration data and model {model.name} has no data set; "
            "say `calibration: random` to quantise on random inputs (marked in the report)"
        )
    return ""


def _skip(device: DeviceView, configuration: Configuration, reason: str) -> Placement:
    return Placement(device.name, configuration, skip=reason)
