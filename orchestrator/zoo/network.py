"""The framework-neutral description of a network: a frozen, topologically ordered graph.

Shapes are those of one sample: (channels, height, width) for images, (features,) for vectors. The
batch is fixed only when the network is emitted. Every node gives one tensor, named like the node.
Names are dotted scopes (``layer1.0.conv1``), so a cell's nodes share their prefix.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.zoo.weights import FloatArray, Parameter, Weights, total_size

Shape = tuple[int, ...]
Attributes = tuple[tuple[str, tuple[int, ...]], ...]

OPERATORS = (
    "conv",
    "relu",
    "relu6",
    "max_pool",
    "avg_pool",
    "global_avg_pool",
    "add",
    "concat",
    "flatten",
    "dense",
    "softmax",
)
"""Every operator. ``conv`` and ``dense`` have parameters ``weight`` and ``bias`` in this order;
weights are laid out (out, in / groups, height, width) and (out, in). ``concat`` joins channels,
``softmax`` runs over features, and average pools leave padding out of the mean, as Keras does."""


@dataclass(frozen=True)
class Tensor:
    """A value in the graph: float32, ``shape`` without the batch dimension."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class Node:
    """One operation. ``inputs`` are tensor names; ``shape`` is that of its one output.

    Attributes: ``kernel`` (h, w), ``stride`` (h, w), ``pads`` (top, left, bottom, right) of conv
    and pools; ``dilation`` (h, w) and ``groups`` (n,) of conv.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    shape: Shape
    attributes: Attributes = ()
    parameters: tuple[Parameter, ...] = ()

    def attribute(self, key: str) -> tuple[int, ...]:
        """The attribute's integers; KeyError if this operator does not have it."""
        return dict(self.attributes)[key]

    @property
    def output(self) -> Tensor:
        """The tensor that this node gives."""
        return Tensor(self.name, self.shape)


@dataclass(frozen=True)
class Network:
    """A whole network and its weights; nodes come after the nodes they read."""

    name: str
    inputs: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Tensor, ...]
    weights: Weights

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All parameters, in the order of the nodes."""
        return tuple(parameter for node in self.nodes for parameter in node.parameters)

    @property
    def parameter_count(self) -> int:
        """Number of trainable scalars; batch norm is folded, so it adds a bias and no more."""
        return total_size(self.parameters)

    def array(self, parameter: Parameter) -> FloatArray:
        """The parameter's values: float32, of its shape. Raises WeightsMismatch."""
        return self.weights.array(parameter)
