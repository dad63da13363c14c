"""The multiply-accumulates of one inference, counted from the network's graph. Pure.

The convention is that of published figures (torchvision's ``GFLOPS`` column, which counts
multiply-adds; He et al. 2015; Sandler et al. 2018; Iandola et al. 2016):

- **MACs** are the multiply-accumulates of convolutions, matrix products and recurrent cells, each
  at the shapes that the model is registered with, its batch included. **FLOPs = 2 × MACs**: a
  multiplication and an addition.
- Padding counts like any other element. Biases, activations, normalisations, pools, elementwise
  arithmetic and data movement do not count. They are not hidden: ``not_counted`` names them.
- Integer arithmetic of quantised operators counts as the floating-point arithmetic it replaces.
- An operator whose work cannot be known (no shape, a body run a number of times that the data
  decide, an operator from outside of the format) is in ``unknown`` with the reason; ``macs`` then
  is a lower bound, and ``None`` where nothing at all could be counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from orchestrator.domain.network_graph import GraphNode, NetworkGraph

NOT_YET = "it multiplies and adds, but is not counted yet"

Rule = Callable[[NetworkGraph, GraphNode], int]


@dataclass(frozen=True)
class ComputeWork:
    """``by_node``: MACs of each counted node, by its index in the graph. ``by_operator``: their
    sums. ``not_counted``: operator → occurrences. ``unknown``: operator → reason."""

    macs: int | None
    by_node: Mapping[int, int]
    by_operator: Mapping[str, int]
    not_counted: Mapping[str, int]
    unknown: Mapping[str, str]

    def plain(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "macs": self.macs,
            "flops": None if self.macs is None else 2 * self.macs,
            "flops_by_operator": {k: 2 * v for k, v in self.by_operator.items()},
            "not_counted": dict(self.not_counted),
            "unknown": dict(self.unknown),
        }


def nothing(why: str) -> ComputeWork:
    """The result for a model whose graph cannot be read."""
    return ComputeWork(None, {}, {}, {}, {"every operator": why})


class _Unknown(Exception):
    """An operator's work cannot be known; the message says why."""


def count(graph: NetworkGraph) -> ComputeWork:
    """The work of every operator of ``graph``; raises nothing."""
    by_node: dict[int, int] = {}
    by_operator: Counter[str] = Counter()
    not_counted: Counter[str] = Counter()
    unknown: dict[str, str] = {}
    for index, node in enumerate(graph.nodes):
        rule = _rule(graph, node)
        if rule is None:
            not_counted[node.operator] += 1
            continue
        try:
            by_node[index] = rule(graph, node)
            by_operator[node.operator] += by_node[index]
        except _Unknown as why:
            unknown.setdefault(node.operator, str(why))
    return ComputeWork(
        macs=sum(by_node.values()) if by_node or not unknown else None,
        by_node=by_node,
        by_operator=dict(by_operator.most_common()),
        not_counted=dict(sorted(not_counted.items())),
        unknown=dict(sorted(unknown.items())),
    )


def _rule(graph: NetworkGraph, node: GraphNode) -> Rule | None:
    """The rule that counts a node's work; ``None``: by convention it does not count."""
    rules = TFLITE if graph.format.endswith("tflite") else ONNX
    if node.domain:
        return _never(f"not an operator of {graph.format} itself, but of {node.domain}")
    if node.bodies:
        counts = any(inner in rules for inner in node.bodies)
        return _never("what it runs, and how often, depends on the data") if counts else None
    return rules.get(node.operator)


def _shape(graph: NetworkGraph, keys: tuple[str, ...], index: int) -> tuple[int, ...]:
    found = graph.shape(keys[index]) if index < len(keys) else None
    if found is None:
        raise _Unknown("the shapes of its tensors cannot be inferred from the file")
    return found


def _in(graph: NetworkGraph, node: GraphNode, index: int) -> tuple[int, ...]:
    return _shape(graph, node.inputs, index)


def _out(graph: NetworkGraph, node: GraphNode, index: int = 0) -> tuple[int, ...]:
    return _shape(graph, node.outputs, index)


def _never(why: str) -> Rule:
    """A rule for operators that multiply and add, but whose work cannot be known."""

    def rule(*_: object) -> int:
        raise _Unknown(why)

    return rule


def _convolution(graph: NetworkGraph, node: GraphNode, weight: int = 1) -> int:
    """Every output element sums over its kernel: weights are [out, in / groups, …]."""
    return prod(_out(graph, node)) * prod(_in(graph, node, weight)[1:])


def _transposed(graph: NetworkGraph, node: GraphNode) -> int:
    """Every input element is spread over its kernel: weights are [in, out / groups, …]."""
    return prod(_in(graph, node, 0)) * prod(_in(graph, node, 1)[1:])


def _gemm(graph: NetworkGraph, node: GraphNode) -> int:
    rows, columns = _in(graph, node, 0)
    inner = rows if node.attributes.get("transA") else columns
    return prod(_out(graph, node)) * inner


def _product(graph: NetworkGraph, node: GraphNode) -> int:
    """Batch and broadcast shapes are the output's; the left operand's last axis is summed over."""
    return prod(_out(graph, node)) * _in(graph, node, 0)[-1]


def _einsum(graph: NetworkGraph, node: GraphNode) -> int:
    """The product of all axes: the cost of contracting all operands in one step."""
    left = str(node.attributes.get("equation", "")).replace(" ", "").split("->")[0]
    sizes: dict[str, int] = {}
    for index, labels in enumerate(left.split(",")):
        shape = _in(graph, node, index)
        if not labels.isalpha() or len(labels) != len(shape):
            raise _Unknown(f"its equation {left!r} is not counted yet")
        sizes |= dict(zip(labels, shape, strict=True))
    return prod(sizes.values()) if "," in left else 0


def _recurrent(graph: NetworkGraph, node: GraphNode) -> int:
    """For every step and sequence, all gates' products with the input and with the last state."""
    sequence, weights, states = (_in(graph, node, n) for n in range(3))
    return sequence[0] * sequence[1] * (prod(weights) + prod(states))


def _attention(graph: NetworkGraph, node: GraphNode) -> int:
    """Queries by keys, then by values; heads fold into the last axis or have one of their own."""
    queries, keys, values = (_in(graph, node, n) for n in range(3))
    heads = node.attributes.get("q_num_heads", 0)
    if len(queries) == 3 and isinstance(heads, int) and heads:
        batch, length, width = queries
        shared = node.attributes.get("kv_num_heads", heads)
        value_width = values[2] // (shared if isinstance(shared, int) else heads) * heads
        return batch * length * keys[1] * (width + value_width)
    if len(queries) == len(keys) == len(values) == 4:
        return prod(queries[:3]) * keys[2] * (queries[3] + values[3])
    raise _Unknown("its operands' shapes are not those that ONNX defines")


def _depthwise(graph: NetworkGraph, node: GraphNode) -> int:
    """Weights are [1, height, width, out]."""
    return prod(_out(graph, node)) * prod(_in(graph, node, 1)[1:3])


def _transposed_nhwc(graph: NetworkGraph, node: GraphNode) -> int:
    """Inputs are the output's shape, weights [out, height, width, in], and the tensor."""
    weights = _in(graph, node, 1)
    return prod(_in(graph, node, 2)) * prod(weights[:3])


def _dense(graph: NetworkGraph, node: GraphNode) -> int:
    """Weights are [out, in]."""
    return prod(_out(graph, node)) * _in(graph, node, 1)[-1]


def _batch_product(graph: NetworkGraph, node: GraphNode) -> int:
    left = _in(graph, node, 0)
    return prod(_out(graph, node)) * left[-2 if node.attributes.get("adj_x") else -1]


ONNX: Mapping[str, Rule] = {
    "Conv": _convolution,
    "ConvInteger": _convolution,
    "QLinearConv": lambda graph, node: _convolution(graph, node, weight=3),
    "DeformConv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
    "Einsum": _einsum,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Attention": _attention,
    "DFT": _never(NOT_YET),
    "STFT": _never(NOT_YET),
}
TFLITE: Mapping[str, Rule] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed_nhwc,
    "FULLY_CONNECTED": _dense,
    "BATCH_MATMUL": _batch_product,
    **dict.fromkeys(
        [
            "CONV_3D", "CONV_3D_TRANSPOSE", "LSTM", "RNN", "SVDF", "RFFT2D",
            "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM",
            "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_RNN", "IF", "WHILE", "CALL",
        ],
        _never(NOT_YET),
    ),
}  # fmt: skip
