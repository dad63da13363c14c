"""Reads a TFLite file's main graph as a ``NetworkGraph``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agent.formats import tflite
from orchestrator.domain.network_graph import (
    UNKNOWN,
    Attribute,
    GraphNode,
    GraphTensor,
    NetworkGraph,
)

BIAS = frozenset(["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"])
ACTIVATIONS = ("", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")


def read(path: Path, file_format: str, shapes: Mapping[str, tuple[int, ...]]) -> NetworkGraph:
    """The graph of a file. ``shapes`` are the registered ones of its inputs.

    If only the leading dimension is free and is registered as 1, unknown sizes become 1, which is
    what TFLite's converter writes for a free dimension.
    """
    file = tflite.read(path)
    declared = [file.tensors[n].shape for n in file.inputs]
    batch_is_one = all(UNKNOWN not in shape[1:] for shape in declared) and all(
        shape[:1] == (1,) for shape in shapes.values()
    )
    tensors = {
        str(index): GraphTensor(
            tensor.name,
            tensor.dtype,
            tuple(1 if batch_is_one and d < 0 else d for d in tensor.shape),
            constant=tensor.constant_bytes > 0,
        )
        for index, tensor in enumerate(file.tensors)
    }
    return NetworkGraph(
        format=file_format,
        origin="TFLite, compiled for the Edge TPU" if file_format == "edgetpu_tflite" else "TFLite",
        nodes=tuple(_node(operator) for operator in file.operators),
        inputs=_keys(file.inputs),
        outputs=_keys(file.outputs),
        tensors=tensors,
        weights=_weights(file, tensors),
    )


def _weights(file: tflite.TfliteFile, tensors: Mapping[str, GraphTensor]) -> frozenset[str]:
    """Keys of the constants, without 32-bit integers such as shapes and axes. Exceptions are the
    biases of quantised operators: 32-bit integers, too, but third operands."""
    return frozenset(
        key
        for operator in file.operators
        for place, key in enumerate(_keys(operator.inputs))
        if key
        and tensors[key].constant
        and (tensors[key].dtype not in ("int32", "int64") or (place == 2 and operator.name in BIAS))
    )


def _keys(indices: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(str(n) if n >= 0 else "" for n in indices)


def _node(operator: tflite.TfliteOperator) -> GraphNode:
    options = dict(operator.options)
    fused = options.pop("activation", 0)
    attributes: dict[str, Attribute] = {}
    for name in ("kernel", "stride", "dilation"):
        if f"{name}_h" in options:
            attributes[name] = (options.pop(f"{name}_h"), options.pop(f"{name}_w"))
    if "padding" in options:
        attributes["padding"] = "valid" if options.pop("padding") else "same"
    if 0 < fused < len(ACTIVATIONS):
        attributes["activation"] = ACTIVATIONS[fused]
    attributes |= options
    own = operator.name in tflite.OPERATORS
    other = "a newer schema" if operator.name.startswith("BUILTIN_") else "a custom kernel"
    return GraphNode(
        operator=operator.name,
        name="",
        inputs=_keys(operator.inputs),
        outputs=_keys(operator.outputs),
        attributes=attributes,
        domain="" if own else other,
    )
