"""Small real ONNX files, and ways to spoil them."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

FEATURES = 6
CLASSES = 3


def dense(batch: int | str | None = 1, features: int | str = FEATURES, seed: int = 0) -> ModelProto:
    """``y = relu(x @ w + b)``; a text or ``None`` leaves that dimension free."""
    rng = np.random.default_rng(seed)
    weights = {
        "w": rng.standard_normal((FEATURES, CLASSES)).astype(np.float32),
        "b": rng.standard_normal((CLASSES,)).astype(np.float32),
    }
    return model(
        [helper.make_node("Gemm", ["x", "w", "b"], ["z"]), helper.make_node("Relu", ["z"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, CLASSES])],
        weights,
    )


def model(
    nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, np.ndarray]
) -> ModelProto:
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def dense_bytes(
    batch: int | str | None = 1, features: int | str = FEATURES, seed: int = 0
) -> bytes:
    data: bytes = dense(batch, features, seed).SerializeToString()
    return data


def with_external_weights() -> bytes:
    """The same model, its first weight said to lie in another file."""
    spoilt = dense()
    weight = spoilt.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    data: bytes = spoilt.SerializeToString()
    return data


def with_input_type(element_type: int) -> bytes:
    """A model that hands one input of ``element_type`` through."""
    value = [helper.make_tensor_value_info("x", element_type, [1, 2])]
    out = [helper.make_tensor_value_info("y", element_type, [1, 2])]
    data: bytes = model([helper.make_node("Identity", ["x"], ["y"])], value, out, {})
    return data.SerializeToString()  # type: ignore[attr-defined,no-any-return]
