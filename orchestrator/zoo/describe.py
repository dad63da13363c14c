"""Parameters, FLOPs and activations of a network, from its description alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.zoo.network import Network, Node


@dataclass(frozen=True)
class Description:
    """Figures of one inference on one sample.

    ``flops`` counts two per multiply-accumulate, of convolutions and dense layers only,
    without bias: twice what torchvision prints as "GFLOPS". ``layers`` counts those same layers,
    ``operators`` all nodes by operator. ``activations`` is the number of float32 elements in the
    outputs of all nodes, ``largest_activation`` that in the largest output.
    """

    name: str
    parameters: int
    flops: int
    layers: int
    activations: int
    largest_activation: int
    operators: Mapping[str, int]


def describe(network: Network) -> Description:
    """Parameters, FLOPs, layers and activation sizes of ``network``; reads no weights."""
    sizes = [math.prod(node.shape) for node in network.nodes]
    operators = Counter(node.op for node in network.nodes)
    return Description(
        name=network.name,
        parameters=network.parameter_count,
        flops=2 * sum(_multiply_accumulates(node) for node in network.nodes),
        layers=sum(1 for node in network.nodes if node.parameters),
        activations=sum(sizes),
        largest_activation=max(sizes),
        operators=dict(sorted(operators.items())),
    )


def _multiply_accumulates(node: Node) -> int:
    # Each output element of a weighted layer sums over one output channel's slice of the weight.
    if not node.parameters:
        return 0
    return math.prod(node.shape) * math.prod(node.parameters[0].shape[1:])
