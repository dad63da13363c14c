"""What follows from a TFLite graph: the layouts of its tensors, its precision. Pure.

A layout is followed, never guessed: TFLite defines the two-dimensional operators on NHWC alone
(``CONV_2D``, pools, resizes), so a tensor that reaches one, through operators that keep the order
of axes, is NHWC, and one that is transposed on the way is known too. Others are unknown.
"""

from __future__ import annotations

import struct

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
_TRANSPOSED = {
    ("NHWC", (0, 2, 3, 1)): "NCHW",
    ("NCHW", (0, 3, 1, 2)): "NHWC",
}
"""(layout after, permutation) → layout before."""
MOST_TENSORS = 300
"""That are followed: inputs and outputs meet what tells within a few; Python's stack is finite."""
_INTEGERS = ("int8", "uint8", "int16", "int4")


def input_layout(graph: TfliteFile, tensor: int) -> str:
    """``NHWC``, ``NCHW``, or empty where no operator tells."""
    return _follow(graph, tensor, forward=True, known={})


def output_layout(graph: TfliteFile, tensor: int) -> str:
    """As ``input_layout``, from the operators that make an output."""
    return _follow(graph, tensor, forward=False, known={})


def _follow(graph: TfliteFile, tensor: int, forward: bool, known: dict[int, str]) -> str:
    """``known``: what was found, or is being sought: each tensor is asked once, loops end."""
    if tensor in known or len(graph.tensors[tensor].shape) != 4 or len(known) > MOST_TENSORS:
        return known.get(tensor, "")
    known[tensor] = ""
    found = set()
    for operator in graph.operators:
        here, there = operator.inputs, operator.outputs
        if not forward:
            here, there = there, here
        if tensor not in here:
            continue
        if operator.name in _SPATIAL:
            found.add("NHWC")
        elif operator.name in _KEEPS_AXES:
            found |= {
                _follow(graph, other, forward, known)
                for other in there
                if other >= 0 and not graph.tensors[other].constant_bytes
            }
        elif operator.name == "TRANSPOSE" and there:
            layout = _follow(graph, there[0], forward, known)
            found.add(_before(graph, operator.inputs, layout, forward))
    found.discard("")
    known[tensor] = found.pop() if len(found) == 1 else ""
    return known[tensor]


def _before(graph: TfliteFile, inputs: tuple[int, ...], layout: str, forward: bool) -> str:
    raw = graph.tensors[inputs[1]].constant if len(inputs) > 1 else b""
    if len(raw) != 16:
        return ""
    permutation = struct.unpack("<4i", raw)
    if forward:
        return _TRANSPOSED.get((layout, permutation), "")
    return next(
        (
            after
            for (after, p), before in _TRANSPOSED.items()
            if (before, p) == (layout, permutation)
        ),
        "",
    )


def kind(graph: TfliteFile) -> str:
    """How it computes: ``int8`` (integer activations), ``dynamic_range`` (integer weights, float
    activations), ``mixed`` (some of both), ``fp16`` (weights) or ``fp32``."""
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
    """The precision that a report files it under: all that computes on integers is int8."""
    found = kind(graph)
    return found if found in ("fp32", "fp16") else "int8"


def is_compiled_for_edgetpu(graph: TfliteFile) -> bool:
    return any(op.name == EDGETPU_OPERATOR for op in graph.operators)


def float_operators(graph: TfliteFile) -> list[str]:
    """Operators that compute on floats: what a fully quantised model has none of."""
    return sorted(
        {
            op.name
            for op in graph.operators
            if op.name not in ("QUANTIZE", "DEQUANTIZE")
            and any(n >= 0 and graph.tensors[n].dtype.startswith("float") for n in op.outputs)
        }
    )
