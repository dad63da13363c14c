"""Analyses for channels-last emitters: the order of flattened features, and signs of tensors."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from orchestrator.zoo.network import Network, Node, Shape

Order = NDArray[np.int64]

_KEEPS_ORDER = frozenset(["relu", "relu6", "softmax", "flatten", "concat"])
"""Operators on vectors that treat features alike, whatever their order."""
_RECTIFIES = frozenset(["relu", "relu6", "softmax"])
_KEEPS_SIGN = frozenset(["max_pool", "avg_pool", "global_avg_pool", "add", "concat", "flatten"])


@dataclass
class Axes:
    """Facts about the tensors of one network whose images are emitted channels-last.

    Flattening such an image changes the order of its features. A dense layer that reads them can
    permute its weights instead; for any other reader the image must be permuted first.
    """

    network: Network
    _shapes: dict[str, Shape] = field(default_factory=dict)
    _nodes: dict[str, Node] = field(default_factory=dict)
    _orders: dict[str, Order | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._shapes = {tensor.name: tensor.shape for tensor in self.network.inputs}
        self._shapes |= {node.name: node.shape for node in self.network.nodes}
        self._nodes = {node.name: node for node in self.network.nodes}
        for node in self.network.nodes:
            self._orders[node.name] = self._order_after(node)

    def order(self, name: str) -> Order | None:
        """(features,): the network's feature at each index of the emitted vector; None if the order
        is unchanged."""
        return self._orders.get(name)

    def must_permute(self, node: Node) -> bool:
        """Whether the input of the flattening ``node`` must be permuted to channels-first."""
        return self._reorders(node) and not self._only_dense_reads(node.name)

    def never_negative(self, name: str) -> bool:
        """Whether no element of the tensor can be negative, judged by the operators before it."""
        node = self._nodes.get(name)
        if node is None or node.op not in _RECTIFIES | _KEEPS_SIGN:
            return False
        return node.op in _RECTIFIES or all(self.never_negative(x) for x in node.inputs)

    def _order_after(self, node: Node) -> Order | None:
        if self._reorders(node) and not self.must_permute(node):
            depth, height, width = self._shapes[node.inputs[0]]
            places = np.arange(depth * height * width, dtype=np.int64)
            return places.reshape(depth, height, width).transpose(1, 2, 0).ravel()
        before = [self._orders.get(name) for name in node.inputs]
        if node.op not in _KEEPS_ORDER or all(order is None for order in before):
            return None
        parts, start = [], 0
        for name, order in zip(node.inputs, before, strict=True):
            size = self._shapes[name][0]
            parts.append(start + (np.arange(size, dtype=np.int64) if order is None else order))
            start += size
        return np.concatenate(parts)

    def _reorders(self, node: Node) -> bool:
        shape = self._shapes[node.inputs[0]]
        return node.op == "flatten" and len(shape) == 3 and shape[0] > 1 and shape[1:] != (1, 1)

    def _only_dense_reads(self, name: str) -> bool:
        if any(output.name == name for output in self.network.outputs):
            return False
        return all(
            reader.op == "dense"
            or (reader.op in _KEEPS_ORDER and self._only_dense_reads(reader.name))
            for reader in self.network.nodes
            if name in reader.inputs
        )
