"""The cheapest way from one artifact to another: pure. Runner, worker and controller plan with it.

Frozen dataclasses of the standard library, Python 3.8 syntax, like ``agent.contract``.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Node = tuple[str, str]
"""A (format, precision) that an artifact is in, e.g. ``("openvino_ir", "int8")``."""


@dataclass(frozen=True)
class Edge:
    """``converter`` makes ``target`` out of ``source``; ``cost`` orders ways, its unit is moot."""

    converter: str
    source: Node
    target: Node
    cost: float = 1.0


def cheapest(edges: Iterable[Edge], start: Node, goals: Sequence[Node]) -> tuple[Edge, ...] | None:
    """The edges of the cheapest way from ``start`` to any goal (Dijkstra).

    Empty where ``start`` is a goal; ``None`` where no way leads there. Of goals that cost the same
    the earlier in ``goals`` is taken; of edges that cost the same, the converter's name decides, so
    that the order of ``edges`` never matters.
    """
    outgoing: dict[Node, list[Edge]] = {}
    for edge in sorted(edges, key=lambda e: (e.converter, e.source, e.target, e.cost)):
        outgoing.setdefault(edge.source, []).append(edge)
    best: dict[Node, tuple[float, tuple[Edge, ...]]] = {}
    queue: list[tuple[float, int, Node, tuple[Edge, ...]]] = [(0.0, 0, start, ())]
    pushed = 0
    while queue:
        cost, _, node, way = heapq.heappop(queue)
        if node in best:
            continue
        best[node] = (cost, way)
        for edge in outgoing.get(node, ()):
            pushed += 1
            heapq.heappush(queue, (cost + edge.cost, pushed, edge.target, (*way, edge)))
    reached = [goal for goal in goals if goal in best]
    return best[min(reached, key=lambda goal: best[goal][0])][1] if reached else None
