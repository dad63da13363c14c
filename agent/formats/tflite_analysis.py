"""What a TFLite graph tells of itself: layouts of its tensors, precision. Pure functions.

TFLite defines its two-dimensional operators (``CONV_2D``, pools, resizes) on NHWC alone: a tensor
that reaches one is followed by ``agent.formats.layouts``.
"""

from __future__ import annotations

import struct
from typing import Iterator, Tuple

from agent.formats import layouts
from agent.formats.layouts import Step
from agent.formats.tflite import EDGETPU_OPERATOR, TfliteFile

_SPATIAL = frozenset(
    [
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "TRANSPOSE_CONV",
        "AVERAGE_POOL_2D",
        "MAX_POOL_2D",
        "L2_POOL_2D",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "SPACE_TO_DEPTH",
        "DEPTH_TO_SPACE",
    ]
)
_KEEPS_AXES = frozenset(
    [
        "ADD",
        "SUB",
        "MUL",
        "DIV",
        "MAXIMUM",
        "MINIMUM",
        "RELU",
        "RELU6",
        "RELU_N1_TO_1",
        "LEAKY_RELU",
        "PRELU",
        "LOGISTIC",
        "TANH",
        "HARD_SWISH",
        "GELU",
        "CAST",
        "QUANTIZE",
        "DEQUANTIZE",
        "PAD",
        "PADV2",
        "MIRROR_PAD",
    ]
)
_WEIGHTED = frozenset(
    ["CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL"]
)
_INTEGERS = ("int8", "uint8", "int16", "int4")


def input_layout(graph: TfliteFile, tensor: int) -> str:
    """``NHWC``, ``NCHW``, or empty where no operator tells."""
    return layouts.input_layout(tensor, lambda t: _steps(graph, t, forward=True))


def output_layout(graph: TfliteFile, tensor: int) -> str:
    """The same for an output, from the operators that made it."""
    return layouts.output_layout(tensor, lambda t: _steps(graph, t, forward=False))


def _steps(graph: TfliteFile, tensor: int, forward: bool) -> Iterator[Step]:
    if len(graph.tensors[tensor].shape) != 4:
        return
    for operator in graph.operators:
        here, there = operator.inputs, operator.outputs
        if not forward:
            here, there = there, here
        if tensor not in here:
            continue
        if operator.name in _SPATIAL:
            yield Step("NHWC")
        elif operator.name in _KEEPS_AXES:
            for other in there:
                if other >= 0 and not graph.tensors[other].constant_bytes:
                    yield Step(tensor=other)
        elif operator.name == "TRANSPOSE" and there:
            yield Step(tensor=there[0], order=_permutation(graph, operator.inputs))


def _permutation(graph: TfliteFile, inputs: Tuple[int, ...]) -> Tuple[int, ...]:
    """The order of axes in a ``TRANSPOSE``; empty where it is not a constant of four."""
    raw = graph.tensors[inputs[1]].constant if len(inputs) > 1 else b""
    return struct.unpack("<4i", raw) if len(raw) == 16 else ()


def kind(graph: TfliteFile) -> str:
    """What it computes in: ``int8`` (integer activations), ``dynamic_range`` (integer weights and
    float activations), ``mixed`` (some of both), ``fp16`` (weights only) or ``fp32``."""
    operators = [op for op in graph.operators if op.outputs]
    known = [op for op in operators if op.name in _WEIGHTED] or operators
    integer = [graph.tensors[op.outputs[0]].dtype in _INTEGERS for op in known]
    if known and all(integer):
        return "int8"
    if any(integer):
        return "mixed"
    constants = {t.dtype for t in graph.tensors if len(t.shape) > 1 and t.constant_bytes}
    if constants & set(_INTEGERS):
        return "dynamic_range"
    return "fp16" if "float16" in constants else "fp32"


def precision(graph: TfliteFile) -> str:
    """Its precision as a report has it: every kind that has integer weights is int8."""
    found = kind(graph)
    return found if found in ("fp32", "fp16") else "int8"


def is_compiled_for_edgetpu(graph: TfliteFile) -> bool:
    return any(op.name == EDGETPU_OPERATOR for op in graph.operators)


def float_operators(graph: TfliteFile) -> list[str]:
    """Operators that compute on floats; a fully quantised model has none."""
    return sorted(
        {
            op.name
            for op in graph.operators
            if op.name not in ("QUANTIZE", "DEQUANTIZE")
            and any(n >= 0 and graph.tensors[n].dtype.startswith("float") for n in op.outputs)
        }
    )
