"""Which operators of an ONNX graph draw random numbers, and which outputs depend on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.inspection.child import onnx_order
from orchestrator.inspection.child.onnx_weights import RANDOM

MOST_NAMED = 4


def of_outputs(nodes: Iterable[Any], outputs: Iterable[str], drops: set[str]) -> dict[str, str]:
    """Output → the random operators that it depends on, for those that do.

    Args:
        nodes: the graph's, sorted, local functions inlined.
        drops: the tensors that are a constant ``true``: ``training_mode`` of ``Dropout``.
    """
    found: dict[str, frozenset[str]] = {}
    for node in nodes:
        taken = [found[name] for name in onnx_order.needs(node) if name in found]
        drawn = frozenset().union(*taken, _random(node, drops))
        if drawn:
            found |= dict.fromkeys(filter(None, node.output), drawn)
    return {name: ", ".join(sorted(found[name])[:MOST_NAMED]) for name in outputs if name in found}


def _random(node: Any, drops: set[str]) -> frozenset[str]:
    """What a node, or one in its bodies, draws."""
    inner = [_random(n, drops) for body in onnx_order.bodies([node]) for n in body.node]
    own: frozenset[str] = frozenset()
    training = node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] in drops
    if node.op_type in RANDOM or training:
        own = frozenset([node.op_type + (f" ({node.name})" if node.name else "")])
    return own.union(*inner)
