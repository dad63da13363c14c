"""Plans conversions: the cheapest way from a source, through the converters of a device's
environments, to a format that a runtime loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.contract.conversion_graph import (
    ConversionPath,
    Node,
    Tool,
    cheapest_path,
    made_elsewhere,
    missing_tools,
    needs,
    usable,
)
from agent.contract.device import RuntimeFacts
from agent.contract.trial import Failure, RuntimeRef
from agent.formats.tflite import NotTflite
from agent.runtimes.formats import SOURCES, precision, precisions


class NoConversionPath(Exception):
    """No converter leads there. ``status``: the result's; ``failure``: what is missing where."""

    def __init__(self, status: str, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.failure = Failure("convert", kind, message)


@dataclass(frozen=True)
class ConversionPlan:
    """``start``: the source's format and precision; ``way``: empty where it is loaded as it is."""

    start: Node
    way: ConversionPath


def plan(
    source: Path,
    form: str,
    runtime: RuntimeRef,
    facts: RuntimeFacts,
    tools: Sequence[Tool],
    held: str = "",
) -> ConversionPlan:
    """The cheapest way from the source to an artifact that the runtime loads.

    Args:
        facts: those of the environment that will load it.
        tools: those of every environment of this device.
        held: the precision that the source is in; empty: it is read from the file.

    Raises:
        NoConversionPath: ``unsupported`` where no known converter leads there, ``failed`` where one
            does that is not installed.
    """
    start = _start(source, form, held)
    goals = goals_of(runtime, facts)
    way = cheapest_path(usable(tools), (start,), goals, runtime.via, facts.environment)
    if way is not None:
        return ConversionPlan(start, way)
    raise _why_not(start, goals, runtime, tools)


def plan_build(
    source: Path,
    form: str,
    node: Node,
    via: Sequence[str],
    tools: Sequence[Tool],
    held: str = "",
) -> ConversionPlan:
    """The cheapest way from the source to ``node``, by tools whose results run on other machines.

    ``held``: as in ``plan``.

    Raises:
        NoConversionPath: as ``plan``.
    """
    start = _start(source, form, held)
    portable = [tool for tool in tools if made_elsewhere(tool)]
    edges = [edge for tool in portable if not tool.missing for edge in tool.edges]
    way = cheapest_path(edges, (start,), (node,), via)
    if way is not None:
        return ConversionPlan(start, way)
    raise _why_not(start, (node,), RuntimeRef("", via=tuple(via)), portable)


def _start(source: Path, form: str, held: str = "") -> Node:
    try:
        return form, held or precision(form, source)
    except NotTflite as error:
        raise NoConversionPath(
            "failed", "bad_model", f"the source is not a TFLite model: {error}"
        ) from error


def goals_of(runtime: RuntimeRef, facts: RuntimeFacts) -> tuple[Node, ...]:
    """The artifacts that the runtime loads for its precision, in its format where it names one.

    Raises:
        NoConversionPath: there are none.
    """
    wants = facts.wants.get(runtime.precision)
    if wants is None:
        known = ", ".join(facts.wants) or "nothing"
        raise NoConversionPath(
            "unsupported",
            "unsupported_precision",
            f"{runtime.backend} does not run in {runtime.precision} here; it runs in {known}",
        )
    goals = tuple(node for node in wants if runtime.format in ("", node[0]))
    if not goals:
        known = ", ".join(dict.fromkeys(form for form, _ in wants))
        raise NoConversionPath(
            "unsupported",
            "unsupported_format",
            f"{runtime.backend} loads no {runtime.format} in {runtime.precision}; it loads {known}",
        )
    return goals


def _why_not(
    start: Node, goals: Sequence[Node], runtime: RuntimeRef, tools: Sequence[Tool]
) -> NoConversionPath:
    wanted = " or ".join(f"{form} in {held}" for form, held in goals)
    through = f" through {', '.join(runtime.via)}" if runtime.via else ""
    missing = missing_tools(tools, (start,), goals, runtime.via)
    if not missing:
        return NoConversionPath(
            "unsupported",
            "unsupported_format",
            f"no converter leads from {start[0]} in {start[1]} to {wanted}{through}",
        )
    return NoConversionPath(
        "failed",
        "runtime_missing",
        f"from {start[0]} in {start[1]} to {wanted}{through} this device lacks a tool: "
        f"{needs(missing)}; install it, or add an environment that has it with "
        "`benchfarm-agent runtimes add`",
    )


def offered(facts: RuntimeFacts, tools: Sequence[Tool]) -> RuntimeFacts:
    """``facts`` with the source formats that can be converted for it, the cheapest first, and each
    target's precisions that can be reached from them."""
    edges = usable(tools)
    cost: dict[str, float] = {}
    reached = set()
    for held, goals in facts.wants.items():
        for form in SOURCES:
            for known in precisions(form):
                way = cheapest_path(edges, ((form, known),), goals, home=facts.environment)
                if way is not None:
                    reached.add(held)
                    total = sum(edge.cost for edge in way)
                    cost[form] = min(total, cost.get(form, total))
    targets = tuple(
        replace(
            target,
            precisions=tuple(p for p in target.precisions if p in reached),
            runs=target.precisions,
        )
        for target in facts.targets
    )
    return replace(facts, targets=targets, accepts=tuple(sorted(cost, key=lambda f: cost[f])))
