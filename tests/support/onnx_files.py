"""Small real ONNX files, and ways to spoil them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

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


def saved(
    path: Path,
    nodes: list[Any],
    gives: list[Any] | None = None,
    weights: dict[str, Any] | None = None,
    takes: list[Any] | None = None,
    opset: int = 21,
    tensors: Sequence[TensorProto] = (),
    domains: Sequence[str] = (),
) -> Path:
    """Write a network from ``x`` to ``y``, each float32 [1, 8] unless ``takes`` or ``gives`` say
    otherwise, and return its path."""
    held = [
        *(numpy_helper.from_array(np.asarray(v), k) for k, v in (weights or {}).items()),
        *tensors,
    ]
    graph = helper.make_graph(nodes, "g", takes or [row("x")], gives or [row("y")], held)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    )
    return path


def row(name: str, kind: int = TensorProto.FLOAT, shape: Sequence[Any] = (1, 8)) -> Any:
    """The declaration of an input or output."""
    return helper.make_tensor_value_info(name, kind, list(shape))


def shapeless(name: str, kind: int = TensorProto.FLOAT) -> Any:
    """The declaration of an output without a shape; without a type where ``kind`` is 0."""
    value = ValueInfoProto(name=name)
    if kind:
        value.type.tensor_type.elem_type = kind
    return value


def raw(name: str, kind: int, shape: Sequence[int], data: bytes) -> TensorProto:
    """A constant in a type that NumPy does not have."""
    return TensorProto(name=name, data_type=kind, dims=shape, raw_data=data)


SQUARE = np.random.default_rng(5).standard_normal((8, 8)).astype(np.float32)
"""Weights of 64 values."""


def quantised(path: Path) -> Path:
    """A QDQ network: ``y = x @ w`` with int8 weights and uint8 activations."""
    node = helper.make_node
    return saved(
        path,
        [
            node("QuantizeLinear", ["x", "scale", "middle"], ["xq"]),
            node("DequantizeLinear", ["xq", "scale", "middle"], ["xd"]),
            node("DequantizeLinear", ["w", "scale", "zero"], ["wd"]),
            node("MatMul", ["xd", "wd"], ["y"]),
        ],
        weights={
            "scale": np.float32(0.03),
            "middle": np.uint8(128),
            "zero": np.int8(0),
            "w": (SQUARE * 30).clip(-127, 127).astype(np.int8),
        },
    )


def half(path: Path) -> Path:
    """``y = x @ w`` in float16."""
    return saved(
        path,
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [row("y", TensorProto.FLOAT16)],
        {"w": SQUARE.astype(np.float16)},
        [row("x", TensorProto.FLOAT16)],
    )


def tiny_bert(words: int = 40, types: int = 2, length: int = 6, batch: int = 1) -> ModelProto:
    """An encoder of one layer as exporters write BERT: token numbers, token types of two rows, an
    attention mask and positions, all int64 (batch, length); two classes."""
    rng = np.random.default_rng(3)
    size = 8

    def table(rows: int, columns: int = size) -> np.ndarray:
        return (rng.standard_normal((rows, columns)) * 0.3).astype(np.float32)

    node = helper.make_node
    weights: dict[str, Any] = {
        "words": table(words),
        "types": table(types),
        "positions": table(length),
        "one": np.float32(1.0),
        "large": np.float32(-10000.0),
        "axes": np.array([1], np.int64),
        "first": np.array(0, np.int64),
        "scale": np.float32(size**-0.5),
        **{f"w{name}": table(size) for name in "qkvo"},
        "head": table(size, 2),
    }
    nodes = [
        node("Gather", ["words", "input_ids"], ["word"]),
        node("Gather", ["types", "token_type_ids"], ["type"]),
        node("Gather", ["positions", "position_ids"], ["position"]),
        node("Add", ["word", "type"], ["both"]),
        node("Add", ["both", "position"], ["x"]),
        node("Cast", ["attention_mask"], ["seen"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["seen", "axes"], ["seen3"]),
        node("Sub", ["one", "seen3"], ["hidden"]),
        node("Mul", ["hidden", "large"], ["bias"]),
        *(node("MatMul", ["x", f"w{name}"], [name]) for name in "qkv"),
        node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["dots"]),
        node("Mul", ["dots", "scale"], ["scaled"]),
        node("Add", ["scaled", "bias"], ["masked"]),
        node("Softmax", ["masked"], ["weights"], axis=-1),
        node("MatMul", ["weights", "v"], ["mixed"]),
        node("MatMul", ["mixed", "wo"], ["out"]),
        node("Gather", ["out", "first"], ["cls"], axis=1),
        node("MatMul", ["cls", "head"], ["logits"]),
    ]
    names = ("input_ids", "token_type_ids", "attention_mask", "position_ids")
    shape = [batch, length]
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, shape) for n in names]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 2])]
    return model(nodes, inputs, outputs, weights)


def save_network(
    path: Any,
    nodes: list[Any],
    inputs: dict[str, tuple[int, list[Any]]],
    outputs: dict[str, tuple[int, list[Any] | None]],
    weights: dict[str, Any] | None = None,
) -> Any:
    """Write a network; ``inputs`` and ``outputs``: name → (element type, shape)."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in (weights or {}).items()}
    ins = [helper.make_tensor_value_info(n, t, s) for n, (t, s) in inputs.items()]
    outs = [helper.make_tensor_value_info(n, t, s) for n, (t, s) in outputs.items()]
    path.write_bytes(model(nodes, ins, outs, arrays).SerializeToString())
    return path
