"""Ways from one artifact to another: pure. Runner, worker and controller plan with it.

Formats in a precision are nodes, converters edges; the same converter may be there in several
runtime environments, and a way may lead through them all. Frozen dataclasses of the standard
library, Python 3.8 syntax, like ``agent.contract``.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Sequence, Tuple

Node = Tuple[str, str]
"""A (format, precision) that an artifact is in, e.g. ``("openvino_ir", "int8")``."""

ELSEWHERE_COST = 0.01
"""Of leaving the environment that will load the result: a process more, so a tie is broken."""


@dataclass(frozen=True)
class Edge:
    """``converter`` makes ``target`` out of ``source``; ``cost`` orders ways, its unit is moot.

    ``environment`` is where it runs, empty as long as nobody has asked an interpreter.
    """

    converter: str
    source: Node
    target: Node
    cost: float = 1.0
    environment: str = ""


@dataclass(frozen=True)
class Tool:
    """A converter as an environment has it. ``missing``: what it lacks there to be used.

    ``keeps``: what of the source is still so in the target (``dynamic_shapes``, ``layout``,
    ``names``). ``where``: ``device``, ``builder`` or both. ``options``: those that it reads.
    """

    name: str
    edges: Tuple[Edge, ...]
    environment: str = ""
    missing: Tuple[str, ...] = ()
    needs_calibration: bool = False
    keeps: Tuple[str, ...] = ()
    where: Tuple[str, ...] = ("device", "builder")
    options: Dict[str, Tuple[str, ...]] = field(default_factory=dict)


Way = Tuple[Edge, ...]
State = Tuple[Node, int]
"""A node, and how many of the converters that must be on the way lie behind."""


def cheapest(
    edges: Iterable[Edge],
    starts: Sequence[Node],
    goals: Sequence[Node],
    via: Sequence[str] = (),
    home: str = "",
) -> Way | None:
    """The edges of the cheapest way from any start to any goal (Dijkstra).

    Empty where a start is a goal; ``None`` where no way leads there. Of ways that cost the same
    the one to the earlier of ``goals`` is taken, then that from the earlier of ``starts``, then the
    converters' names decide, so that the order of ``edges`` never matters.

    Args:
        via: converters that must be on the way, in this order.
        home: the environment that is preferred where several have a converter.
    """
    outgoing: Dict[Node, list[Edge]] = {}
    for edge in sorted(edges, key=lambda e: (e.converter, e.source, e.target, e.environment)):
        outgoing.setdefault(edge.source, []).append(edge)
    best: Dict[State, Tuple[float, Way]] = {}
    queue: List[Tuple[float, int, State, Way]] = []
    for start in starts:
        queue.append((0.0, len(queue), (start, 0), ()))
    pushed = len(queue)
    while queue:
        cost, _, state, way = heapq.heappop(queue)
        if state in best:
            continue
        best[state] = (cost, way)
        node, passed = state
        for edge in outgoing.get(node, ()):
            pushed += 1
            on = passed < len(via) and edge.converter == via[passed]
            more = edge.cost + (ELSEWHERE_COST if edge.environment != home else 0.0)
            heapq.heappush(queue, (cost + more, pushed, (edge.target, passed + on), (*way, edge)))
    reached = [(goal, len(via)) for goal in goals if (goal, len(via)) in best]
    return best[min(reached, key=lambda state: best[state][0])][1] if reached else None


def usable(tools: Iterable[Tool], where: str = "device") -> List[Edge]:
    """The edges of the tools that lack nothing and may run there."""
    return [
        edge for tool in tools if not tool.missing and where in tool.where for edge in tool.edges
    ]


def lacking(
    tools: Sequence[Tool],
    starts: Sequence[Node],
    goals: Sequence[Node],
    via: Sequence[str] = (),
) -> Tuple[Tool, ...] | None:
    """The tools to be installed for the way that needs the fewest of them; ``None``: no tool that
    is known leads there. Each is given as the environment has it that lacks the least."""
    least: Dict[str, Tool] = {}
    for tool in tools:
        known = least.get(tool.name)
        if known is None or len(tool.missing) < len(known.missing):
            least[tool.name] = tool
    dear = 1000.0
    edges = [
        Edge(e.converter, e.source, e.target, e.cost + (dear if tool.missing else 0.0))
        for tool in least.values()
        for e in tool.edges
    ]
    way = cheapest(edges, starts, goals, via)
    if way is None:
        return None
    names = dict.fromkeys(edge.converter for edge in way if least[edge.converter].missing)
    return tuple(least[name] for name in names)


def segments(way: Way) -> Tuple[Way, ...]:
    """The way cut where it goes from one environment to another."""
    parts: List[List[Edge]] = []
    for edge in way:
        if not parts or parts[-1][-1].environment != edge.environment:
            parts.append([])
        parts[-1].append(edge)
    return tuple(tuple(part) for part in parts)


def described(start: Node, way: Way) -> str:
    """``keras (fp32) -> savedmodel (fp32) by keras_savedmodel in tensorflow-2.21 -> …``."""
    words = "%s (%s)" % start
    for edge in way:
        words += " -> %s (%s)" % edge.target + " by %s" % edge.converter
        words += " in %s" % edge.environment if edge.environment else ""
    return words
