"""The precision that an ONNX file is stored in, from the types of its weights and activations.

It is the precision of the operators that multiply weights: convolutions, matrix products, recurrent
cells. Where some of them are quantised, it is that of most quantised weights, as it is for TFLite;
else that of most weights. A file without such operators has the type of its constants, or else of
its inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.inspection.child.onnx_weights import (
    INTEGER_WEIGHTS,
    ConstantGraph,
    StoredConstant,
    dtype_name,
)

MULTIPLIES: Mapping[str, tuple[int, ...]] = {
    "Conv": (0, 1),
    "ConvTranspose": (0, 1),
    "DeformConv": (0, 1),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "LSTM": (0, 1, 2),
    "GRU": (0, 1, 2),
    "RNN": (0, 1, 2),
    "Attention": (0, 1, 2),
    "FusedConv": (0, 1),
    "FusedGemm": (0, 1),
    "FusedMatMul": (0, 1),
}
"""Operator → its operands that are multiplied."""

ORDER = ("int8", "fp8", "int4", "fp32", "fp16", "bf16")
"""The precisions of files; the first of those of equal shares is taken."""
QUANTISED = frozenset(["int8", "fp8", "int4"])

_SMALL = {"int8": "int8", "uint8": "int8", "int16": "int8", "uint16": "int8", "int32": "int8"}
_FLOAT = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp32"}
_WORDS = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64"}
_DYNAMIC = frozenset(
    ["ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
     "DynamicQuantizeLSTM"]
)  # fmt: skip
_WEIGHTS_ONLY = frozenset(["MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"])


@dataclass(frozen=True)
class StoredPrecision:
    """``precision``: one of ``ORDER``. ``described``: what the file holds, for people; it is
    ``precision`` where that says it all."""

    precision: str
    described: str


@dataclass
class _Tally:
    """What the multiplying operators of a file hold; elements of weights by precision and type."""

    precisions: Counter[str] = field(default_factory=Counter)
    weights: Counter[str] = field(default_factory=Counter)
    activations: Counter[str] = field(default_factory=Counter)
    ways: dict[str, None] = field(default_factory=dict)
    quantised: int = 0
    operators: int = 0


def read(
    graph: ConstantGraph, weights: Mapping[str, StoredConstant], types: Sequence[str]
) -> StoredPrecision:
    """The precision of a file.

    Args:
        weights: those of ``graph``.
        types: the element types of the network's inputs and outputs.
    """
    tally = _Tally()
    for node in graph.nodes:
        if node.op_type in INTEGER_WEIGHTS:
            _of_integers(graph, node, tally)
        elif node.op_type in MULTIPLIES:
            _of_floats(graph, node, tally)
    if tally.precisions:
        return _described(tally)
    if any(n.op_type in ("QuantizeLinear", "DequantizeLinear") for n in graph.nodes):
        return StoredPrecision("int8", "QDQ without an operator on weights")
    held = Counter({name: 0 for name in types if name in _FLOAT})
    for constant in weights.values():
        if constant.dtype in _FLOAT:
            held[constant.dtype] += constant.elements
    if not held:
        return StoredPrecision("fp32", "fp32")
    return _floats(held)


def _of_integers(graph: ConstantGraph, node: Any, tally: _Tally) -> None:
    """An operator that takes integers itself: ``QLinearConv``, ``MatMulNBits`` …"""
    held = [c for c in graph.weights_of(node).values() if c.dtype not in _FLOAT]
    elements = sum(c.elements for c in held)
    dtype = max(held, key=lambda c: c.elements).dtype if held else "int8"
    _add(tally, dtype, elements)
    way = "QOperator"
    if node.op_type in _DYNAMIC:
        way = "dynamically quantised"
    elif node.op_type in _WEIGHTS_ONLY:
        way = "weights only"
    tally.ways[way] = None


def _of_floats(graph: ConstantGraph, node: Any, tally: _Tally) -> None:
    """An operator on floats, which are quantised where ``DequantizeLinear`` gave them."""
    stored: dict[str, StoredConstant] = {}
    small: list[str] = []
    activation = ""
    for number in MULTIPLIES[node.op_type]:
        name = node.input[number] if number < len(node.input) else ""
        constant = name in graph.fixed
        if constant:
            stored |= graph.sources(name)
        quantised = _quantised_type(graph, name)
        if quantised and constant:
            small.append(quantised)
        elif quantised:
            activation = quantised
    small += [c.dtype for c in stored.values() if c.dtype not in _FLOAT]
    elements = sum(c.elements for c in stored.values())
    if small or activation:
        _add(tally, small[0] if small else activation, elements)
        if activation:
            tally.activations[activation] += 1
        tally.ways["QDQ" if activation else "weights only"] = None
    elif stored:
        tally.operators += 1
        for constant_ in stored.values():
            if constant_.dtype in _FLOAT:
                tally.precisions[_FLOAT[constant_.dtype]] += constant_.elements
                tally.weights[constant_.dtype] += constant_.elements


def _add(tally: _Tally, dtype: str, elements: int) -> None:
    tally.operators += 1
    tally.quantised += 1
    tally.precisions[_precision(dtype)] += max(elements, 1)
    tally.weights[dtype] += max(elements, 1)


def _precision(dtype: str) -> str:
    if dtype in _SMALL:
        return _SMALL[dtype]
    return "fp8" if dtype.startswith("float8") else "int4"


def _quantised_type(graph: ConstantGraph, name: str) -> str:
    """The type of the quantised values that a tensor comes from, through operators that only move
    or cast values; empty: it is not quantised."""
    for _ in range(16):
        node = graph.makers.get(name)
        if node is None or not node.input:
            return ""
        if node.op_type == "DequantizeLinear":
            return _type_of(graph, node)
        if node.op_type not in _MOVES:
            return ""
        name = node.input[0]
    return ""


_MOVES = frozenset(
    ["Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Relu",
     "MaxPool"]
)  # fmt: skip


def _type_of(graph: ConstantGraph, dequantise: Any) -> str:
    """The element type that a ``DequantizeLinear`` takes: its zero point's, or its operand's."""
    if len(dequantise.input) > 2 and dequantise.input[2] in graph.constants:
        return graph.constants[dequantise.input[2]].dtype
    taken = dequantise.input[0]
    if taken in graph.constants:
        return graph.constants[taken].dtype
    maker = graph.makers.get(taken)
    if maker is not None and maker.op_type == "QuantizeLinear":
        code = next((a.i for a in maker.attribute if a.name == "output_dtype"), 0)
        if code:
            return dtype_name(code)
        if len(maker.input) > 2 and maker.input[2] in graph.constants:
            return graph.constants[maker.input[2]].dtype
        return "uint8"  # QuantizeLinear's default
    if maker is not None and maker.op_type == "Cast":
        return dtype_name(next((a.i for a in maker.attribute if a.name == "to"), 0))
    return "int8"


def _described(tally: _Tally) -> StoredPrecision:
    if not tally.quantised:
        return _floats(tally.weights)
    found = Counter({p: n for p, n in tally.precisions.items() if p in QUANTISED})
    words = f"{' and '.join(tally.ways)}: {_listed(tally.weights)} weights"
    words += f", {_listed(tally.activations)} activations" if tally.activations else ""
    if tally.quantised < tally.operators:
        words += f"; {tally.quantised} of {tally.operators} operators on weights are quantised"
    return StoredPrecision(_most(found), words)


def _floats(held: Counter[str]) -> StoredPrecision:
    by_precision: Counter[str] = Counter()
    for dtype, elements in held.items():
        by_precision[_FLOAT[dtype]] += elements
    precision = _most(by_precision)
    total = sum(held.values())
    if len(held) == 1 or not total:
        dtype = max(held, key=lambda d: held[d])
        return StoredPrecision(precision, _WORDS[dtype])
    shares = ", ".join(
        f"{_WORDS[dtype]} {elements / total:.1%}" for dtype, elements in held.most_common()
    )
    return StoredPrecision(precision, f"mixed: {shares} of the weights")


def _most(found: Mapping[str, int]) -> str:
    return min(found, key=lambda p: (-found[p], ORDER.index(p)))


def _listed(types: Iterable[str]) -> str:
    return " and ".join(_WORDS.get(name, name) for name in types)
