"""How a board comes by what a runtime loads: a way through the converters of its environments."""

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
    """There is none: ``status`` is the result's, ``failure`` says what is missing where."""

    def __init__(self, status: str, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.failure = Failure("convert", kind, message)


@dataclass(frozen=True)
class ConversionPlan:
    """``way`` is empty where the source is loaded as it is."""

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
    """The cheapest way from the source to what the runtime is to load.

    Args:
        facts: of the environment that will load it.
        tools: of every environment of this device.
        held: the precision that the source is in; empty: its file tells.

    Raises:
        NoWay: ``unsupported`` where no converter is known to lead there, ``failed`` where one does
            that is not installed.
    """
    start = _start(source, form, held)
    goals = goals_of(runtime, facts)
    way = cheapest_path(usable(tools), (start,), goals, runtime.via, facts.environment)
    if way is not None:
        return ConversionPlan(start, way)
    raise _why_not(start, goals, runtime, tools)


def plan_build(
    source: Path, form: str, node: Node, via: Sequence[str], tools: Sequence[Tool]
) -> ConversionPlan:
    """The cheapest way from the source to ``node``, by tools whose results are good elsewhere.

    Raises:
        NoWay: as ``plan``.
    """
    start = _start(source, form)
    elsewhere = [tool for tool in tools if made_elsewhere(tool)]
    edges = [edge for tool in elsewhere if not tool.missing for edge in tool.edges]
    way = cheapest_path(edges, (start,), (node,), via)
    if way is not None:
        return ConversionPlan(start, way)
    raise _why_not(start, (node,), RuntimeRef("", via=tuple(via)), elsewhere)


def _start(source: Path, form: str, held: str = "") -> Node:
    try:
        return form, held or precision(form, source)
    except NotTflite as error:
        raise NoConversionPath(
            "failed", "bad_model", f"the source is not a TFLite model: {error}"
        ) from error


def goals_of(runtime: RuntimeRef, facts: RuntimeFacts) -> tuple[Node, ...]:
    """What the runtime loads for the precision, in the format if one is asked for.

    Raises:
        NoWay: nothing.
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
    absent = missing_tools(tools, (start,), goals, runtime.via)
    if not absent:
        return NoConversionPath(
            "unsupported",
            "unsupported_format",
            f"no converter leads from {start[0]} in {start[1]} to {wanted}{through}",
        )
    return NoConversionPath(
        "failed",
        "runtime_missing",
        f"from {start[0]} in {start[1]} to {wanted}{through} this device lacks a tool: "
        f"{needs(absent)}; install it, or add an environment that has it with "
        "`benchfarm-agent runtimes add`",
    )


def offered(facts: RuntimeFacts, tools: Sequence[Tool]) -> RuntimeFacts:
    """``facts`` with the source formats that the device's tools lead from, those that are loaded
    at the least cost first, and of each target's precisions those that they lead to."""
    edges = usable(tools)
    cost: dict[str, float] = {}
    reached = set()
    for held, goals in facts.wants.items():
        for form in SOURCES:
            for known in precisions(form):
                way = cheapest_path(edges, ((form, known),), goals, home=facts.environment)
                if way is not None:
                    reached.add(held)
                    spent = sum(edge.cost for edge in way)
                    cost[form] = min(spent, cost.get(form, spent))
    targets = tuple(
        replace(
            target,
            precisions=tuple(p for p in target.precisions if p in reached),
            runs=target.precisions,
        )
        for target in facts.targets
    )
    return replace(facts, targets=targets, accepts=tuple(sorted(cost, key=lambda f: cost[f])))
