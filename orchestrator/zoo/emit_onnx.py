"""Writes a network as ONNX, with a fixed batch; the same network and seed give the same bytes.

Operators follow the ONNX specification at opset 17, stored as IR version 8, which runtimes since
onnxruntime 1.11 and OpenVINO 2022 load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.zoo.errors import OperatorNotEmitted, ShapeMismatch, ToolMissing
from orchestrator.zoo.network import Network, Node, Tensor

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 8


def to_model(network: Network, batch: int = 1) -> onnx.ModelProto:
    """The checked ONNX model; its single input is ``input``, its single output ``output``.

    A network with several outputs keeps their layers' names. Raises ToolMissing without the
    ``onnx`` package, UnsupportedOperator, ShapeMismatch if ``batch`` < 1, WeightsMismatch.
    """
    try:
        import onnx
        import onnx.checker
        import onnx.numpy_helper
        from onnx import helper
    except ImportError as error:
        raise ToolMissing(
            "emitting ONNX needs onnx: pip install 'benchfarm[controller]'"
        ) from error
    if batch < 1:
        raise ShapeMismatch(f"{network.name}: batch {batch} must be at least 1")
    label = _labels(network)
    initializers = [
        onnx.numpy_helper.from_array(network.array(parameter), parameter.name)
        for parameter in network.parameters
    ]
    if any(node.op == "relu6" for node in network.nodes):
        initializers += [
            onnx.numpy_helper.from_array(np.array(value, dtype=np.float32), name)
            for name, value in (("relu6.min", 0.0), ("relu6.max", 6.0))
        ]

    def value(tensor: Tensor) -> Any:
        shape = (batch, *tensor.shape)
        return helper.make_tensor_value_info(
            label.get(tensor.name, tensor.name), onnx.TensorProto.FLOAT, shape
        )

    graph = helper.make_graph(
        [
            helper.make_node(
                kind,
                [label.get(name, name) for name in inputs],
                [label.get(output, output)],
                name=output,
                **attributes,
            )
            for node in network.nodes
            for kind, inputs, output, attributes in _operations(node)
        ],
        network.name,
        [value(tensor) for tensor in network.inputs],
        [value(tensor) for tensor in network.outputs],
        initializers,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="benchfarm",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def to_bytes(network: Network, batch: int = 1) -> bytes:
    """The serialised model, the same for the same network; raises what ``to_model`` raises."""
    content: bytes = to_model(network, batch).SerializeToString(deterministic=True)
    return content


def write(network: Network, path: Path, batch: int = 1) -> str:
    """Writes the model to ``path`` and returns its SHA-256 in hexadecimal; raises also OSError."""
    content = to_bytes(network, batch)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


Operation = tuple[str, list[str], str, dict[str, Any]]
"""ONNX operator, input names, output name, attributes."""


def _labels(network: Network) -> dict[str, str]:
    return {network.outputs[0].name: "output"} if len(network.outputs) == 1 else {}


def _operations(node: Node) -> Iterator[Operation]:
    if node.op not in OPERATORS:
        raise OperatorNotEmitted(f"{node.name}: the ONNX emitter has no rule for {node.op!r}")
    yield from OPERATORS[node.op](node)


def _one(kind: str, **attributes: Any) -> Callable[[Node], Iterator[Operation]]:
    def rule(node: Node) -> Iterator[Operation]:
        names = [*node.inputs, *(parameter.name for parameter in node.parameters)]
        yield kind, names, node.name, attributes

    return rule


def _window(node: Node) -> dict[str, Any]:
    return {
        "kernel_shape": node.attribute("kernel"),
        "strides": node.attribute("stride"),
        "pads": node.attribute("pads"),
    }


def _conv(node: Node) -> Iterator[Operation]:
    yield from _one(
        "Conv",
        **_window(node),
        dilations=node.attribute("dilation"),
        group=node.attribute("groups")[0],
    )(node)


def _max_pool(node: Node) -> Iterator[Operation]:
    yield from _one("MaxPool", **_window(node))(node)


def _avg_pool(node: Node) -> Iterator[Operation]:
    yield from _one("AveragePool", **_window(node), count_include_pad=0)(node)


def _relu6(node: Node) -> Iterator[Operation]:
    yield "Clip", [*node.inputs, "relu6.min", "relu6.max"], node.name, {}


def _add(node: Node) -> Iterator[Operation]:
    # ONNX's Sum takes any number, but runtimes optimise the binary Add.
    total = node.inputs[0]
    for number, term in enumerate(node.inputs[1:], start=2):
        last = number == len(node.inputs)
        output = node.name if last else f"{node.name}.{number}"
        yield "Add", [total, term], output, {}
        total = output


OPERATORS: dict[str, Callable[[Node], Iterator[Operation]]] = {
    "conv": _conv,
    "relu": _one("Relu"),
    "relu6": _relu6,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_avg_pool": _one("GlobalAveragePool"),
    "add": _add,
    "concat": _one("Concat", axis=1),
    "flatten": _one("Flatten", axis=1),
    "dense": _one("Gemm", transB=1),
    "softmax": _one("Softmax", axis=1),
}
