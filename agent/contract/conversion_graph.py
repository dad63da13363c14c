"""Ways from one artifact to another: pure. Runner, worker and controller plan with it.

Formats in a precision are nodes, converters edges; the same converter may be there in several
runtime environments, and a way may lead through them all. Frozen dataclasses of the standard
library, Python 3.8 syntax, like ``agent.contract.trial``.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from typing import Dict, Iterable, List, Sequence, Tuple

Node = Tuple[str, str]
"""A (format, precision) that an artifact is in, e.g. ``("openvino_ir", "int8")``."""

DEVICE, BUILDER = "device", "builder"
"""Where a converter may run: on the board that will load the result, on another machine for it."""

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
    ``names``). ``where``: ``device``, ``builder`` or both; ``builder:aarch64`` makes it on another
    machine for boards of that architecture alone. ``options``: those that it reads.
    """

    name: str
    edges: Tuple[Edge, ...]
    environment: str = ""
    missing: Tuple[str, ...] = ()
    needs_calibration: bool = False
    keeps: Tuple[str, ...] = ()
    where: Tuple[str, ...] = (DEVICE, BUILDER)
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


def split(
    there: Iterable[Edge],
    here: Iterable[Edge],
    starts: Sequence[Node],
    goals: Sequence[Node],
    via: Sequence[str] = (),
    home: str = "",
) -> Tuple[Way, Way] | None:
    """The cheapest way whose first part is walked on another machine, over ``there``, and the rest
    on this one, over ``here``; ``None`` where there is none.

    At the same cost the other machine does as little of it as it can. Where ``here`` alone leads to
    no goal, the first part has an edge.
    """
    first = {_there(edge): edge for edge in there}
    hand_over = {
        Edge("", moved.target, edge.target, 0.0, home): edge for moved, edge in first.items()
    }
    edges = [*first, *hand_over, *here]
    way = cheapest(edges, [_elsewhere(start) for start in starts], goals, via, home)
    if way is None:
        return None
    cut = next(number for number, edge in enumerate(way) if edge in hand_over)
    return tuple(first[edge] for edge in way[:cut]), way[cut + 1 :]


def _there(edge: Edge) -> Edge:
    """The edge among nodes, and in an environment, of the other machine's own."""
    source, target = _elsewhere(edge.source), _elsewhere(edge.target)
    return replace(edge, source=source, target=target, environment="there:" + edge.environment)


def _elsewhere(node: Node) -> Node:
    return "there:" + node[0], node[1]


def cost(way: Way) -> float:
    """What its edges cost in all."""
    return sum(edge.cost for edge in way)


def remaining(via: Sequence[str], way: Way) -> Tuple[str, ...]:
    """What of ``via`` is still to be passed after ``way``."""
    passed = 0
    for edge in way:
        passed += passed < len(via) and edge.converter == via[passed]
    return tuple(via[passed:])


def usable(tools: Iterable[Tool], where: str = DEVICE, machine: str = "") -> List[Edge]:
    """The edges of the tools that lack nothing and may run there, for a board of ``machine``."""
    places = {where, "%s:%s" % (where, machine)}
    there = (tool for tool in tools if not tool.missing and places.intersection(tool.where))
    return [edge for tool in there for edge in tool.edges]


def made_elsewhere(tool: Tool) -> bool:
    """Whether its result may be made on another machine than the one that will run it."""
    return any(place.split(":")[0] == BUILDER for place in tool.where)


def on_the_way(way: Way, tools: Iterable[Tool]) -> List[Tool]:
    """The tools that a way uses, as they are where it uses them."""
    used = {(edge.converter, edge.environment) for edge in way}
    return [tool for tool in tools if (tool.name, tool.environment) in used]


def needs(tools: Iterable[Tool]) -> str:
    """``edgetpu_compile needs edgetpu_compiler; nncf_quantize needs nncf``."""
    return "; ".join("%s needs %s" % (tool.name, ", ".join(tool.missing)) for tool in tools)


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
