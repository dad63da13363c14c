"""What networks really look like: each works, or is unsupported with what is wrong and no more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.contract.failures import Unsupported
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes import registry
from support.runner_child import Bench, model_of, require

LONGEST = 600
"""Characters of a message: a sweep's table shows hundreds of them."""

F = TensorProto.FLOAT
ODD_INPUT, ODD_OUTPUT = "Bild 1 ü/Ж", "Ausgang ✓ 2"


def info(name: str, shape: list[int | None], kind: int = F) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def sequence(name: str) -> Any:
    return helper.make_tensor_sequence_value_info(name, F, [1, 3])


def save(
    path: Path,
    node: Any,
    inputs: list[Any],
    outputs: list[Any],
    weights: Mapping[str, Any] | None = None,
    opset: int = 17,
    ir_version: int = 8,
) -> Path:
    constants = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph([node], "g", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    path.write_bytes(model.SerializeToString())
    return path


def relu(x: list[Any], y: list[Any]) -> Any:
    return helper.make_node("Relu", x, y)


TABLE = np.arange(24, dtype=np.float32).reshape(8, 3)
WORKS: dict[str, tuple[dict[str, Any], dict[str, Any], Any]] = {
    "integer indices": (
        {
            "node": helper.make_node("Gather", ["table", "i"], ["y"]),
            "inputs": [info("i", [1, 4], TensorProto.INT64)],
            "outputs": [info("y", [1, 4, 3])],
            "weights": {"table": TABLE},
        },
        {"i": np.array([[0, 1, 2, 7]])},
        TABLE[[[0, 1, 2, 7]]],
    ),
    "three inputs of two types": (
        {
            "node": helper.make_node("Where", ["c", "a", "b"], ["y"]),
            "inputs": [info("c", [1, 3], TensorProto.BOOL), info("a", [1, 3]), info("b", [1, 3])],
            "outputs": [info("y", [1, 3])],
        },
        {
            "b": np.zeros((1, 3), np.float32),
            "c": np.array([[True, False, True]]),
            "a": np.ones((1, 3), np.float32),
        },
        np.array([[1, 0, 1]], np.float32),
    ),
    "int32 in and out": (
        {
            "node": helper.make_node("Add", ["a", "b"], ["y"]),
            "inputs": [info(name, [1, 3], TensorProto.INT32) for name in "ab"],
            "outputs": [info("y", [1, 3], TensorProto.INT32)],
        },
        {"a": np.full((1, 3), 2, np.int32), "b": np.full((1, 3), 3, np.int32)},
        np.full((1, 3), 5, np.int32),
    ),
    "pixels": (
        {
            "node": helper.make_node("Cast", ["x"], ["y"], to=F),
            "inputs": [info("x", [1, 3], TensorProto.UINT8)],
            "outputs": [info("y", [1, 3])],
        },
        {"x": np.array([[0, 7, 255]], np.uint8)},
        np.array([[0, 7, 255]], np.float32),
    ),
    "a scalar": (
        {"node": relu(["x"], ["y"]), "inputs": [info("x", [])], "outputs": [info("y", [])]},
        {"x": np.array(-2.0, np.float32)},
        np.array(0.0, np.float32),
    ),
    "a dimension of zero": (
        {
            "node": relu(["x"], ["y"]),
            "inputs": [info("x", [1, 0, 3])],
            "outputs": [info("y", [1, 0, 3])],
        },
        {"x": np.empty((1, 0, 3), np.float32)},
        np.empty((1, 0, 3), np.float32),
    ),
    "names with spaces and unicode": (
        {
            "node": relu([ODD_INPUT], [ODD_OUTPUT]),
            "inputs": [info(ODD_INPUT, [1, 3])],
            "outputs": [info(ODD_OUTPUT, [1, 3])],
        },
        {ODD_INPUT: np.array([[-1, 0, 2]], np.float32)},
        np.array([[0, 0, 2]], np.float32),
    ),
    "an output whose size depends on the values": (
        {
            "node": helper.make_node("NonZero", ["x"], ["y"]),
            "inputs": [info("x", [1, 3])],
            "outputs": [info("y", [2, None], TensorProto.INT64)],
        },
        {"x": np.array([[1, 0, 1]], np.float32)},
        np.array([[0, 0], [0, 2]]),
    ),
}

RELU: dict[str, Any] = {
    "node": relu(["x"], ["y"]),
    "inputs": [info("x", [1, 3])],
    "outputs": [info("y", [1, 3])],
}
UNSUPPORTED: dict[str, tuple[dict[str, Any], str]] = {
    "a sequence given": (
        {
            "node": helper.make_node("ConcatFromSequence", ["x"], ["y"], axis=0),
            "inputs": [sequence("x")],
            "outputs": [info("y", [None, 3])],
        },
        r"seq\(tensor\(float\)\)|ConcatFromSequence",
    ),
    "a sequence returned": (
        {
            "node": helper.make_node("SequenceConstruct", ["x", "x"], ["y"]),
            "inputs": [info("x", [1, 3])],
            "outputs": [sequence("y")],
        },
        r"seq\(tensor\(float\)\)|SequenceMark",
    ),
    "text": (
        {
            "node": helper.make_node("Identity", ["x"], ["y"]),
            "inputs": [info("x", [1, 3], TensorProto.STRING)],
            "outputs": [info("y", [1, 3], TensorProto.STRING)],
        },
        "x has element type .*string",
    ),
    "bfloat16, which NumPy lacks": (
        {
            "node": helper.make_node("Cast", ["x"], ["y"], to=F),
            "inputs": [info("x", [1, 3], TensorProto.BFLOAT16)],
            "outputs": [info("y", [1, 3])],
        },
        "x has element type .*bf",
    ),
}


@pytest.fixture(params=["onnxruntime", "openvino"])
def backend(request: pytest.FixtureRequest) -> Any:
    require(request.param)
    return registry.find_backend(request.param)


def specs_of(feed: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, str(a.dtype), a.shape) for name, a in feed.items())


@pytest.mark.parametrize("what", WORKS)
def test_it_runs(backend: Any, tmp_path: Path, what: str) -> None:
    parts, feed, wanted = WORKS[what]
    path = save(tmp_path / "m.onnx", **parts)
    session = backend.load(path, RuntimeRef(backend.name), specs_of(feed))
    session.bind(feed)
    session.infer()
    (found,) = session.read().values()
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)
    session.close()


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_it_is_unsupported_by_name(backend: Any, tmp_path: Path, what: str) -> None:
    parts, words = UNSUPPORTED[what]
    path = save(tmp_path / "m.onnx", **parts)
    with pytest.raises(Unsupported, match=words) as caught:
        backend.load(path, RuntimeRef(backend.name))
    assert len(str(caught.value)) < LONGEST


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"opset": 99}, r"too old for this model: ONNX Runtime only \*guarantees\*"),
        ({"ir_version": 99}, "too old for this model: Unsupported model IR version: 99"),
    ],
)
def test_a_model_newer_than_onnxruntime(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """OpenVINO takes both: it reads the newest operator set that it knows."""
    require("onnxruntime")
    path = save(tmp_path / "m.onnx", **RELU, **change)
    with pytest.raises(Unsupported, match=words) as caught:
        registry.find_backend("onnxruntime").load(path, RuntimeRef("onnxruntime"))
    assert len(str(caught.value)) < LONGEST


@pytest.mark.parametrize("what", WORKS)
def test_a_whole_trial_ends_with_a_result(backend: Any, tmp_path: Path, what: str) -> None:
    """Nothing of a reference, a fidelity or a sample trips over these either."""
    parts, feed, wanted = WORKS[what]
    path = save(tmp_path / "m.onnx", **parts)
    output = parts["outputs"][0].name
    arrays: dict[str, Any] = {f"input:{name}": np.stack([a, a]) for name, a in feed.items()}
    arrays[f"output:{output}"] = np.stack([wanted, wanted])
    np.savez(tmp_path / "reference.npz", **arrays)
    model = model_of(path, "onnx", specs_of(feed))
    runtime = RuntimeRef(backend.name, threads=1)
    found = Bench(backend.name, tmp_path).trial(model, runtime, path, tmp_path / "reference.npz")
    assert found.failure is None or found.status in ("invalid", "unsupported"), found.failure
    assert found.failure is None or len(found.failure.message) < LONGEST
