"""Conversion paths: from a model's file to an artifact that a backend loads. Pure functions.

Nodes are formats in a precision, edges are converters; a converter may exist in several runtime
environments, and a path may lead through all of them. Runner, worker and controller plan with it.
Frozen dataclasses, standard library only, Python 3.8 syntax, like ``agent.contract.trial``.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from typing import Dict, Iterable, List, Sequence, Tuple

Node = Tuple[str, str]
"""(format, precision) of an artifact, e.g. ``("openvino_ir", "int8")``."""

DEVICE, BUILDER = "device", "builder"
"""Where a converter may run: on the board that will load the result, or on another machine."""

ELSEWHERE_COST = 0.01
"""Cost of a step outside of the environment that will load the result: one more process. It is
small, so that it only decides between paths of equal cost."""


@dataclass(frozen=True)
class Edge:
    """``converter`` makes ``target`` out of ``source``.

    ``cost`` has no unit, it only ranks paths. ``environment`` is where the converter runs; empty
    while no interpreter has been probed.
    """

    converter: str
    source: Node
    target: Node
    cost: float = 1.0
    environment: str = ""


@dataclass(frozen=True)
class Tool:
    """A converter as one environment has it.

    Attributes:
        missing: modules and programs that it lacks there; empty: it can be used.
        keeps: properties of the source that the target still has: ``dynamic_shapes``, ``layout``,
            ``names``.
        where: ``device``, ``builder`` or both; ``builder:aarch64``: on another machine, for boards
            of that architecture only.
        options: the options that it reads, with the values that they accept.
    """

    name: str
    edges: Tuple[Edge, ...]
    environment: str = ""
    missing: Tuple[str, ...] = ()
    needs_calibration: bool = False
    keeps: Tuple[str, ...] = ()
    where: Tuple[str, ...] = (DEVICE, BUILDER)
    options: Dict[str, Tuple[str, ...]] = field(default_factory=dict)


ConversionPath = Tuple[Edge, ...]
State = Tuple[Node, int]
"""A node, and how many of the converters in ``via`` have been passed."""


def cheapest_path(
    edges: Iterable[Edge],
    starts: Sequence[Node],
    goals: Sequence[Node],
    via: Sequence[str] = (),
    home: str = "",
) -> ConversionPath | None:
    """The cheapest path from any start to any goal (Dijkstra's algorithm).

    Empty where a start is a goal, ``None`` where there is no path. Between paths of the same cost
    the order of ``goals`` decides, then that of ``starts``, then the converters' names, so that the
    order of ``edges`` never matters.

    Args:
        via: converters that the path must pass, in this order.
        home: the environment to prefer where several have a converter.
    """
    outgoing: Dict[Node, list[Edge]] = {}
    for edge in sorted(edges, key=lambda e: (e.converter, e.source, e.target, e.environment)):
        outgoing.setdefault(edge.source, []).append(edge)
    best: Dict[State, Tuple[float, ConversionPath]] = {}
    queue: List[Tuple[float, int, State, ConversionPath]] = []
    for start in starts:
        queue.append((0.0, len(queue), (start, 0), ()))
    pushed = len(queue)
    while queue:
        cost, _, state, path = heapq.heappop(queue)
        if state in best:
            continue
        best[state] = (cost, path)
        node, passed = state
        for edge in outgoing.get(node, ()):
            pushed += 1
            is_next = passed < len(via) and edge.converter == via[passed]
            step_cost = edge.cost + (ELSEWHERE_COST if edge.environment != home else 0.0)
            reached = (edge.target, passed + is_next)
            heapq.heappush(queue, (cost + step_cost, pushed, reached, (*path, edge)))
    ends = [(goal, len(via)) for goal in goals if (goal, len(via)) in best]
    return best[min(ends, key=lambda state: best[state][0])][1] if ends else None


def split_path(
    there: Iterable[Edge],
    here: Iterable[Edge],
    starts: Sequence[Node],
    goals: Sequence[Node],
    via: Sequence[str] = (),
    home: str = "",
) -> Tuple[ConversionPath, ConversionPath] | None:
    """The cheapest path whose first part runs on another machine, over the edges ``there``, and the
    rest on this one, over ``here``; ``None`` where there is none.

    Between paths of the same cost the one with the shortest first part is taken; that part has at
    least one edge where ``here`` alone leads to no goal.
    """
    first = {_there(edge): edge for edge in there}
    hand_over = {
        Edge("", moved.target, edge.target, 0.0, home): edge for moved, edge in first.items()
    }
    edges = [*first, *hand_over, *here]
    path = cheapest_path(edges, [_node_there(start) for start in starts], goals, via, home)
    if path is None:
        return None
    cut = next(number for number, edge in enumerate(path) if edge in hand_over)
    return tuple(first[edge] for edge in path[:cut]), path[cut + 1 :]


def _there(edge: Edge) -> Edge:
    """The edge between nodes, and in an environment, of the other machine."""
    source, target = _node_there(edge.source), _node_there(edge.target)
    return replace(edge, source=source, target=target, environment="there:" + edge.environment)


def _node_there(node: Node) -> Node:
    return "there:" + node[0], node[1]


def path_cost(path: ConversionPath) -> float:
    """The sum of the edges' costs."""
    return sum(edge.cost for edge in path)


def remaining_via(via: Sequence[str], path: ConversionPath) -> Tuple[str, ...]:
    """The converters of ``via`` that ``path`` has not passed yet."""
    passed = 0
    for edge in path:
        passed += passed < len(via) and edge.converter == via[passed]
    return tuple(via[passed:])


def usable(tools: Iterable[Tool], where: str = DEVICE, machine: str = "") -> List[Edge]:
    """The edges of tools that lack nothing and may run at ``where``, for boards of ``machine``."""
    places = {where, "%s:%s" % (where, machine)}
    found = (tool for tool in tools if not tool.missing and places.intersection(tool.where))
    return [edge for tool in found for edge in tool.edges]


def made_elsewhere(tool: Tool) -> bool:
    """Whether the tool may run on another machine than the one that will load its result."""
    return any(place.split(":")[0] == BUILDER for place in tool.where)


def tools_on_path(path: ConversionPath, tools: Iterable[Tool]) -> List[Tool]:
    """The tools that the path uses, each in the environment in which it uses it."""
    used = {(edge.converter, edge.environment) for edge in path}
    return [tool for tool in tools if (tool.name, tool.environment) in used]


def needs(tools: Iterable[Tool]) -> str:
    """``edgetpu_compile needs edgetpu_compiler; nncf_quantize needs nncf``."""
    return "; ".join("%s needs %s" % (tool.name, ", ".join(tool.missing)) for tool in tools)


def missing_tools(
    tools: Sequence[Tool],
    starts: Sequence[Node],
    goals: Sequence[Node],
    via: Sequence[str] = (),
) -> Tuple[Tool, ...] | None:
    """The tools to install for the path that needs the fewest installations; ``None``: no known
    tools lead to a goal. Each tool is given as the environment has it that lacks the least."""
    least: Dict[str, Tool] = {}
    for tool in tools:
        known = least.get(tool.name)
        if known is None or len(tool.missing) < len(known.missing):
            least[tool.name] = tool
    install_cost = 1000.0
    edges = [
        Edge(e.converter, e.source, e.target, e.cost + (install_cost if tool.missing else 0.0))
        for tool in least.values()
        for e in tool.edges
    ]
    path = cheapest_path(edges, starts, goals, via)
    if path is None:
        return None
    names = dict.fromkeys(edge.converter for edge in path if least[edge.converter].missing)
    return tuple(least[name] for name in names)


def segments(path: ConversionPath) -> Tuple[ConversionPath, ...]:
    """The path, cut where it changes the environment."""
    parts: List[List[Edge]] = []
    for edge in path:
        if not parts or parts[-1][-1].environment != edge.environment:
            parts.append([])
        parts[-1].append(edge)
    return tuple(tuple(part) for part in parts)


def describe_path(start: Node, path: ConversionPath) -> str:
    """``keras (fp32) -> savedmodel (fp32) by keras_savedmodel in tensorflow-2.21 -> …``."""
    words = "%s (%s)" % start
    for edge in path:
        words += " -> %s (%s)" % edge.target + " by %s" % edge.converter
        words += " in %s" % edge.environment if edge.environment else ""
    return words
