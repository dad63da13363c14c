"""How much of a TFLite file is in fp16 or int8."""

from __future__ import annotations

from typing import Iterable, Set

from agent.contract.precision_share import PrecisionShare
from agent.formats.tflite import TfliteFile, TfliteOperator

_INTEGERS = ("int8", "uint8", "int16", "int4")
_REAL = ("float32", "float16", "float64", "bfloat16")
_CHANGES_TYPE = frozenset(["QUANTIZE", "DEQUANTIZE", "CAST", "FAKE_QUANT"])
_WITH_WEIGHTS = frozenset(
    [
        *("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "CONV_3D_TRANSPOSE"),
        *("FULLY_CONNECTED", "BATCH_MATMUL", "GATHER", "EMBEDDING_LOOKUP", "SVDF", "PRELU"),
        *("UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN", "LSTM", "RNN"),
        *("ADD", "SUB", "MUL", "DIV"),
    ]
)
"""Operators whose constants are weights; those of others are axes, sizes, settings."""


def tflite_share(graph: TfliteFile, precision: str) -> PrecisionShare:
    """Operators whose real tensors are all integers (int8), or whose weights are in ``precision``:
    with integer weights and float activations an operator is int8 too, with fp16 weights it
    computes in what the device has. A bias is a weight, and counts as int8 in 32 bits too."""
    operators, macs = [0, 0], [0, 0]
    weights: Set[int] = set()
    widened = _widened(graph)
    for operator in graph.operators:
        own = [widened.get(n, n) for n in operator.inputs if n >= 0]
        constants = [n for n in own if graph.tensors[n].constant_bytes]
        if operator.name in _WITH_WEIGHTS:
            weights.update(constants)
        if operator.name in _CHANGES_TYPE or not _computes(graph, operator):
            continue
        work = _macs(graph, operator)
        operators[1] += 1
        macs[1] += work
        if _is_in(graph, operator, constants, precision):
            operators[0] += 1
            macs[0] += work
    kinds = {n: graph.tensors[n].dtype for n in weights}
    ints = {n for n, kind in kinds.items() if kind in _INTEGERS or kind == "int32"}
    if not any(kind in _INTEGERS for kind in kinds.values()):
        ints = set()
    changed = ints if precision == "int8" else {n for n in weights if kinds[n] == "float16"}
    counted = [n for n, kind in kinds.items() if kind in _REAL or n in ints]
    return PrecisionShare(
        precision,
        (operators[0], operators[1]),
        (
            sum(_size(graph, n) for n in counted if n in changed),
            sum(_size(graph, n) for n in counted),
        ),
        (macs[0], macs[1]),
    )


def _widened(graph: TfliteFile) -> "dict[int, int]":
    """The result of a ``DEQUANTIZE`` of a constant → that constant: weights stored in fp16."""
    return {
        operator.outputs[0]: operator.inputs[0]
        for operator in graph.operators
        if operator.name == "DEQUANTIZE" and graph.tensors[operator.inputs[0]].constant_bytes
    }


def _computes(graph: TfliteFile, operator: TfliteOperator) -> bool:
    names = [n for n in (*operator.inputs, *operator.outputs) if n >= 0]
    return any(graph.tensors[n].dtype in _REAL + _INTEGERS for n in names)


def _is_in(
    graph: TfliteFile, operator: TfliteOperator, constants: Iterable[int], precision: str
) -> bool:
    kinds = [graph.tensors[n].dtype for n in constants]
    if precision == "fp16":
        return "float16" in kinds
    data = [n for n in (*operator.inputs, *operator.outputs) if n >= 0]
    real = [graph.tensors[n].dtype for n in data if graph.tensors[n].dtype in _REAL]
    return not real or any(kind in _INTEGERS for kind in kinds)


def _size(graph: TfliteFile, tensor: int) -> int:
    found = 1
    for size in graph.tensors[tensor].shape:
        found *= max(size, 1)
    return found


def _macs(graph: TfliteFile, operator: TfliteOperator) -> int:
    """The operator's multiply-accumulates; 0 where it has none, or a shape is free."""
    shapes = [graph.tensors[n].shape if n >= 0 else () for n in operator.inputs]
    out = graph.tensors[operator.outputs[0]].shape if operator.outputs else ()
    if len(shapes) < 2 or any(-1 in shape for shape in (out, *shapes[:3])):
        return 0
    weight = shapes[1]
    if operator.name in ("CONV_2D", "CONV_3D") and len(weight) > 3:
        channel = weight[:-1] if operator.name == "CONV_3D" else weight[1:]
        return _product(out) * _product(channel)
    if operator.name == "DEPTHWISE_CONV_2D" and len(weight) == 4:
        return _product(out) * _product(weight[1:3])
    if operator.name == "TRANSPOSE_CONV" and len(shapes) > 2:
        return _product(shapes[2]) * _product(weight[:3])
    if operator.name == "FULLY_CONNECTED" and len(weight) == 2:
        return _product(out) * weight[1]
    if operator.name == "BATCH_MATMUL" and len(shapes[0]) > 1:
        return _product(out) * shapes[0][-2 if dict(operator.options).get("adj_x") else -1]
    return 0


def _product(sizes: Iterable[int]) -> int:
    found = 1
    for size in sizes:
        found *= size
    return found
