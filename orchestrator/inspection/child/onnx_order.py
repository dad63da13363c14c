"""Sorts the nodes of an ONNX graph: runtimes take them in any order, onnx's tools do not."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any


def sort_model(model: Any) -> str:
    """Sort a model's nodes as ``sort`` does."""
    graph = model.graph
    given = {i.name for i in (*graph.input, *graph.initializer)}
    return sort(graph, given | {i.values.name for i in graph.sparse_initializer})


def sort(graph: Any, given: set[str]) -> str:
    """Sort the nodes of a graph, and of the bodies in it, each after those that it needs.

    ``given``: names of the tensors that no node of it makes.

    Returns:
        What is wrong with them, empty where they are sorted now.
    """
    made = {name for node in graph.node for name in node.output if name}
    wanted_by = [needs(node) for node in graph.node]
    for node, wanted in zip(graph.node, wanted_by, strict=True):
        lacking = sorted(wanted - given - made)
        if lacking:
            return f"nothing gives input {lacking[0]!r} of {_words(node)}"
    order = _order(graph.node, wanted_by, given)
    if len(order) < len(graph.node):
        stuck = next(node for n, node in enumerate(graph.node) if n not in set(order))
        return f"its operators need each other in a circle; {_words(stuck)} is in it or behind it"
    if order != sorted(order):
        nodes = [_copy(graph.node[n]) for n in order]
        del graph.node[:]
        graph.node.extend(nodes)
    for body in bodies(graph.node):
        own = {i.name for i in (*body.input, *body.initializer)}
        fault = sort(body, given | made | own)
        if fault:
            return fault
    return ""


def _order(nodes: Any, wanted_by: list[set[str]], given: set[str]) -> list[int]:
    """Indices of the nodes in an order in which each finds what it needs, those of the file first
    where they can be; a circle is left out."""
    makers = {name: n for n, node in enumerate(nodes) for name in node.output if name}
    waits_for = [
        {makers[name] for name in wanted if name in makers and name not in given}
        for wanted in wanted_by
    ]
    takers: dict[int, list[int]] = {}
    for n, wanted_nodes in enumerate(waits_for):
        for maker in wanted_nodes:
            takers.setdefault(maker, []).append(n)
    left = [len(wanted_nodes) for wanted_nodes in waits_for]
    ready = [n for n, count in enumerate(left) if not count]
    order: list[int] = []
    while ready:
        n = heapq.heappop(ready)
        order.append(n)
        for taker in takers.get(n, ()):
            left[taker] -= 1
            if not left[taker]:
                heapq.heappush(ready, taker)
    return order


def needs(node: Any) -> set[str]:
    """The tensors that a node takes, those that its bodies capture among them."""
    found = {name for name in node.input if name}
    for body in bodies([node]):
        own = {i.name for i in (*body.input, *body.initializer)}
        own |= {name for inner in body.node for name in inner.output}
        inner_needs = set().union(*(needs(inner) for inner in body.node), ())
        found |= inner_needs - own
    return found


def bodies(nodes: Iterable[Any]) -> Iterator[Any]:
    """The graphs that nodes hold directly."""
    for node in nodes:
        for attribute in node.attribute:
            yield from [attribute.g] if attribute.HasField("g") else attribute.graphs


def _words(node: Any) -> str:
    return f"operator {node.op_type}" + (f" ({node.name})" if node.name else "")


def _copy(node: Any) -> Any:
    import onnx

    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied
