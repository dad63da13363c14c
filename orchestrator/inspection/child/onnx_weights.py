"""The learnt constants of an ONNX graph, and the element types that they are stored in.

A weight may be an initializer, or be made by operators: a ``Constant``, a ``ConstantOfShape``, a
constant behind ``Transpose``, ``Cast`` or ``DequantizeLinear``. It counts once, at its source, with
the elements and the type that are stored. Scalars, and operands that are settings (the bounds of
``Clip``, the scale of a quantisation), are no weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

FLOATS = frozenset(["float32", "float16", "bfloat16", "float64"])
SETTINGS: Mapping[str, frozenset[int]] = {
    "BatchNormalization": frozenset(),
    "Clip": frozenset([1, 2]),
    "ConstantOfShape": frozenset([0]),
    "DequantizeLinear": frozenset([1, 2]),
    "Dropout": frozenset([1, 2]),
    "Expand": frozenset([1]),
    "GRU": frozenset([4, 5]),
    "LSTM": frozenset([4, 5, 6]),
    "NonMaxSuppression": frozenset([2, 3, 4]),
    "OneHot": frozenset([1, 2]),
    "Pad": frozenset([1, 2, 3]),
    "Pow": frozenset([1]),
    "QuantizeLinear": frozenset([1, 2]),
    "Range": frozenset([0, 1, 2]),
    "Resize": frozenset([1, 2, 3]),
    "RNN": frozenset([4, 5]),
    "Upsample": frozenset([1]),
}
"""Operator → operands that are settings, never weights."""

INTEGER_WEIGHTS: Mapping[str, tuple[int, ...]] = {
    "ConvInteger": (1,),
    "DynamicQuantizeLSTM": (1, 2, 3),
    "DynamicQuantizeMatMul": (1, 4),
    "GatherBlockQuantized": (0,),
    "MatMulBnb4": (1,),
    "MatMulInteger": (1,),
    "MatMulIntegerToFloat": (1, 6),
    "MatMulNBits": (1, 5),
    "QAttention": (1, 2),
    "QGemm": (3, 6),
    "QLinearAdd": (0, 3),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (0, 3),
    "QLinearMul": (0, 3),
}
"""Operator on integers → operands that may be weights; its others are scales and zero points."""

NEVER = 1 << 30
_INTEGERS_BEHIND = {"Cast": 2, "DequantizeLinear": 1}
"""Operators → the least rank of integers that are values behind them: a shape has one axis."""
RANDOM = frozenset(
    ["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial",
     "Bernoulli"]
)  # fmt: skip
_FIRST_ONLY = frozenset(
    [
        "Cast", "CastLike", "Clip", "DequantizeLinear", "Expand", "Flatten", "Gather", "Identity",
        "Pad", "QuantizeLinear", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    ]
)  # fmt: skip
"""Operators whose result holds the values of their first operand only."""


@dataclass(frozen=True)
class StoredConstant:
    """``dtype``: as stored, ``int4`` and ``float8e4m3fn`` among them; ``rank`` 0: a scalar."""

    elements: int
    dtype: str
    rank: int


class ConstantGraph:
    """The nodes of a graph and of the bodies in it, and which tensors are constants.

    Args:
        nodes: those of the graph, sorted, local functions inlined; those of bodies are found in
            them.
        initializers: the graph's, sparse ones too.
        shapes: the shape of each tensor that is known.
    """

    def __init__(
        self,
        nodes: Iterable[Any],
        initializers: Mapping[str, StoredConstant],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        self.constants = dict(initializers)
        self.nodes = list(self._flat(nodes))
        self.makers = {name: node for node in self.nodes for name in node.output if name}
        self.fixed = set(self.constants)
        """Names of tensors that no input of the network and no chance takes part in."""
        for node in self.nodes:
            if node.op_type in RANDOM or _has_body(node):
                continue
            if all(name in self.fixed for name in node.input if name):
                made = _made(node, shapes)
                if made is not None:
                    self.constants[node.output[0]] = made
                self.fixed.update(node.output)

    def _flat(self, nodes: Iterable[Any]) -> Iterator[Any]:
        for node in nodes:
            yield node
            for attribute in node.attribute:
                for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                    self.constants |= stored(body)
                    yield from self._flat(body.node)

    def sources(self, name: str, integer_rank: int = NEVER) -> dict[str, StoredConstant]:
        """The stored constants whose values a constant tensor holds, scalars left out.

        Args:
            integer_rank: the least rank from which integers are values there, and not shapes or
                axes.
        """
        found: dict[str, StoredConstant] = {}
        seen: set[tuple[str, int]] = set()
        path = [(name, integer_rank)]
        while path:
            step = path.pop()
            at, rank = step
            if step in seen or not at:
                continue
            seen.add(step)
            constant = self.constants.get(at)
            if constant is not None:
                if constant.rank >= (1 if constant.dtype in FLOATS else rank):
                    found[at] = constant
                continue
            node = self.makers.get(at)
            if node is None:
                continue
            rank = min(rank, _INTEGERS_BEHIND.get(node.op_type, NEVER))
            operands = node.input[:1] if node.op_type in _FIRST_ONLY else node.input
            settings = SETTINGS.get(node.op_type, frozenset())
            path += [(i, rank) for n, i in enumerate(operands) if n not in settings]
        return found

    def weights_of(self, node: Any) -> dict[str, StoredConstant]:
        """The stored constants that are weights of one operator."""
        operands = INTEGER_WEIGHTS.get(node.op_type)
        settings = SETTINGS.get(node.op_type, frozenset())
        found: dict[str, StoredConstant] = {}
        for number, name in enumerate(node.input):
            wanted = number not in settings if operands is None else number in operands
            if wanted and name in self.fixed:
                found |= self.sources(name, NEVER if operands is None else 1)
        if node.op_type == "MatMulNBits" and len(node.input) > 1 and node.input[1] in found:
            found[node.input[1]] = _packed(node, found[node.input[1]])
        return found

    def weights(self) -> dict[str, StoredConstant]:
        """Every weight by the name of its stored constant, each once."""
        found: dict[str, StoredConstant] = {}
        for node in self.nodes:
            if not self.fixed.issuperset(filter(None, node.output)):
                found |= self.weights_of(node)
        return found


def stored(graph: Any) -> dict[str, StoredConstant]:
    """The initializers of a graph, sparse ones too, whose elements are those of their shape."""
    found = {i.name: _of_tensor(i) for i in graph.initializer}
    for sparse in graph.sparse_initializer:
        found[sparse.values.name] = _of_dims(sparse.dims, sparse.values.data_type)
    return found


def _of_tensor(tensor: Any) -> StoredConstant:
    return _of_dims(tensor.dims, tensor.data_type)


def _of_dims(dims: Sequence[int], code: int) -> StoredConstant:
    return StoredConstant(prod(dims), dtype_name(code), len(dims))


def dtype_name(code: int) -> str:
    """NumPy's name of an ONNX element type, ``bfloat16``, ``int4`` and the like included."""
    import onnx

    try:
        name = str(onnx.TensorProto.DataType.Name(code)).lower()
    except ValueError:  # of a later ONNX
        return f"type {code}"
    return {"float": "float32", "double": "float64"}.get(name, name)


def _made(node: Any, shapes: Mapping[str, tuple[int, ...]]) -> StoredConstant | None:
    """What a ``Constant`` holds, or a ``ConstantOfShape`` of a known shape fills."""
    if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
        for attribute in node.attribute:
            if attribute.name == "value":
                return _of_tensor(attribute.t)
            if attribute.name == "sparse_value":
                sparse = attribute.sparse_tensor
                return _of_dims(sparse.dims, sparse.values.data_type)
            if attribute.name == "value_floats":
                return StoredConstant(len(attribute.floats), "float32", 1)
            if attribute.name == "value_ints":
                return StoredConstant(len(attribute.ints), "int64", 1)
        return StoredConstant(1, "float32", 0)  # a number or a text
    if node.op_type == "ConstantOfShape" and node.output[0] in shapes:
        shape = shapes[node.output[0]]
        code = next((a.t.data_type for a in node.attribute if a.name == "value"), 1)
        return _of_dims(shape, code)
    return None


def _packed(node: Any, held: StoredConstant) -> StoredConstant:
    """A ``MatMulNBits`` weight holds several values in one byte; its attributes say how many."""
    numbers = {a.name: a.i for a in node.attribute}
    elements = numbers.get("K", 0) * numbers.get("N", 0) or held.elements
    return StoredConstant(elements, f"uint{numbers.get('bits', 4)}", 2)


def _has_body(node: Any) -> bool:
    return any(a.HasField("g") or a.graphs for a in node.attribute)
