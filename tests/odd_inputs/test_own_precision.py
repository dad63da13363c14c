"""Files that are in another precision than fp32 already, and weights that operators make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from orchestrator.inspection.child import onnx_file, onnx_graph
from orchestrator.zoo import catalogue, emit_onnx
from support import onnx_files
from support.cli import Shell
from support.onnx_files import SQUARE, raw, row, saved

node = helper.make_node
SPEC = """
name: {name}
models: [{{name: {model}}}]
runtimes: [{{backend: onnxruntime, precision: [{precision}]}}]
trials: 1
scenario: {{min_duration_s: 0.02, max_duration_s: 0.1, warm_up_s: 0.02, min_samples: 12}}
"""
BYTES = bytes(64)
SCALE = {"scale": np.float32(0.03)}
INT8 = {**SCALE, "w": (SQUARE * 30).astype(np.int8), "zero": np.int8(0), "middle": np.uint8(128)}
QUANTISED_X = node("QuantizeLinear", ["x", "scale", "middle"], ["xq"])
MADE = [node("Cast", ["w"], ["wf"], to=TensorProto.FLOAT), node("MatMul", ["x", "wf"], ["y"])]
UNPACKED = [node("DequantizeLinear", ["w", "scale"], ["wf"]), node("MatMul", ["x", "wf"], ["y"])]


def _half_weights(path: Path) -> Path:
    return saved(path, MADE, weights={"w": SQUARE.astype(np.float16)})


def _bf16(path: Path) -> Path:
    return saved(path, MADE, tensors=[raw("w", TensorProto.BFLOAT16, (8, 8), bytes(128))])


def _double(path: Path) -> Path:
    takes, gives = ([row(n, TensorProto.DOUBLE)] for n in "xy")
    weights = {"w": SQUARE.astype(np.float64)}
    return saved(path, [node("MatMul", ["x", "w"], ["y"])], gives, weights, takes)


def _fp8(path: Path) -> Path:
    tensors = [raw("w", TensorProto.FLOAT8E4M3FN, (8, 8), BYTES)]
    return saved(path, UNPACKED, weights=SCALE, tensors=tensors)


def _int4(path: Path) -> Path:
    tensors = [raw("w", TensorProto.INT4, (8, 8), BYTES[:32])]
    return saved(path, UNPACKED, weights=SCALE, tensors=tensors)


def _packed_int4(path: Path) -> Path:
    shape = {"K": 32, "N": 8, "bits": 4, "block_size": 32}
    packed = node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", **shape)
    weights = {"w": np.zeros((8, 1, 16), np.uint8), "s": np.ones(8, np.float32)}
    takes = [row("x", shape=(1, 32))]
    return saved(path, [packed], weights=weights, takes=takes, domains=["com.microsoft"])


def _q_operator(path: Path) -> Path:
    scaled = ["xq", "scale", "middle", "w", "scale", "zero", "scale", "middle"]
    nodes = [QUANTISED_X, node("QLinearMatMul", scaled, ["yq"])]
    return saved(
        path, [*nodes, node("DequantizeLinear", ["yq", "scale", "middle"], ["y"])], weights=INT8
    )


def _dynamic(path: Path) -> Path:
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        node("MatMulInteger", ["xq", "w", "xz", "zero"], ["i"]),
        node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        node("Mul", ["f", "xs"], ["y"]),
    ]
    return saved(path, nodes, weights={k: INT8[k] for k in ("w", "zero")})


def _quantised_when_run(path: Path) -> Path:
    nodes = [
        QUANTISED_X,
        node("DequantizeLinear", ["xq", "scale", "middle"], ["xd"]),
        node("QuantizeLinear", ["w", "scale", "zero"], ["wq"]),
        node("DequantizeLinear", ["wq", "scale", "zero"], ["wd"]),
        node("Transpose", ["wd"], ["wt"]),
        node("MatMul", ["xd", "wt"], ["y"]),
    ]
    return saved(path, nodes, weights={**INT8, "w": SQUARE})


def _mixed(path: Path) -> Path:
    nodes = [
        node("MatMul", ["x", "v"], ["h"]),
        node("DequantizeLinear", ["w", "scale", "zero"], ["wd"]),
        node("MatMul", ["h", "wd"], ["y"]),
    ]
    weights = {k: INT8[k] for k in ("w", "scale", "zero")}
    return saved(path, nodes, weights={**weights, "v": SQUARE})


@pytest.mark.parametrize(
    ("made", "precision", "says", "parameters"),
    [
        (onnx_files.half, "fp16", "fp16", 64),
        (_half_weights, "fp16", "fp16", 64),
        (_bf16, "bf16", "bf16", 64),
        (_double, "fp32", "fp64", 64),
        (onnx_files.quantised, "int8", "QDQ: int8 weights, uint8 activations", 64),
        (_quantised_when_run, "int8", "QDQ: int8 weights, uint8 activations", 64),
        (_q_operator, "int8", "QOperator: int8 weights", 64),
        (_dynamic, "int8", "dynamically quantised: int8 weights", 64),
        (_fp8, "fp8", "weights only: float8e4m3fn weights", 64),
        (_int4, "int4", "weights only: int4 weights", 64),
        (_packed_int4, "int4", "weights only: uint4 weights", 256),
        (_mixed, "int8", "1 of 2 operators on weights are quantised", 128),
    ],
)
def test_the_precision_of_a_file_is_read_from_its_weights(
    tmp_path: Path, made: object, precision: str, says: str, parameters: int
) -> None:
    found = onnx_file.onnx_model(made(tmp_path / "net.onnx"), "net.onnx", {})  # type: ignore[operator]
    assert (found.precision, found.parameters) == (precision, parameters)
    assert says in found.stored


@pytest.mark.parametrize(
    ("nodes", "weights", "parameters"),
    [
        ([node("Constant", [], ["w"], value=numpy_helper.from_array(SQUARE))], {}, 64),
        ([node("ConstantOfShape", ["s"], ["w"])], {"s": np.array([8, 8])}, 64),
        ([node("Transpose", ["v"], ["w"])], {"v": SQUARE}, 64),
        ([node("Reshape", ["v", "s"], ["w"])], {"v": SQUARE[:2], "s": np.array([8, 2])}, 16),
        ([node("Cast", ["v"], ["w"], to=TensorProto.FLOAT)], {"v": SQUARE.astype(np.float16)}, 64),
        ([node("Mul", ["v", "c"], ["w"])], {"v": SQUARE, "c": np.float32(2)}, 64),
        ([node("Concat", ["v", "v"], ["w"], axis=1)], {"v": SQUARE}, 64),
    ],
)
def test_weights_that_operators_make_are_counted_once(
    tmp_path: Path, nodes: list[object], weights: dict[str, np.ndarray], parameters: int
) -> None:
    product = node("MatMul", ["x", "w"], ["y"])
    gives = [row("y", shape=(1, None))]
    path = saved(tmp_path / "net.onnx", [*nodes, product], gives, weights)
    assert onnx_file.onnx_model(path, "net.onnx", {}).parameters == parameters


def test_bounds_of_an_activation_are_no_parameters() -> None:
    """mobilenet_v2 had 3,487,818 in one list and 3,487,816 in another: 0 and 6 of its ReLU6."""
    info = catalogue.info("mobilenet_v2")
    network = onnx_graph.of_model(emit_onnx.to_model(catalogue.load("mobilenet_v2", 0)), {})
    assert network.parameters == info.parameters == 3_487_816


def test_a_sweep_names_the_precision_that_a_file_is_in(farm_shell: Shell, tmp_path: Path) -> None:
    onnx_files.half(tmp_path / "own-half.onnx")
    onnx_files.quantised(tmp_path / "own-qdq.onnx")
    added = farm_shell.fine("model", "add", tmp_path / "own-half.onnx")
    assert "formats onnx fp16;" in added
    assert "fp16 file" in added
    farm_shell.fine("model", "add", tmp_path / "own-qdq.onnx")
    [shown] = json.loads(farm_shell.fine("model", "show", "own-qdq", "-o", "json"))
    assert shown["artifacts"][0]["precision"] == "int8"
    assert shown["details"]["parameters"] == 64
    assert "int8 (QDQ: int8 weights, uint8 activations)" in farm_shell.fine(
        "model", "show", "own-qdq"
    )
    spec = tmp_path / "own.yaml"
    spec.write_text(SPEC.format(name="own-half", model="own-half", precision="fp32, fp16"))
    farm_shell("sweep", "run", spec)
    rows = _rows(farm_shell, "own-half")
    assert rows["fp16"]["status"] == "ok"
    assert rows["fp16"]["conversion"] == ""
    assert rows["fp32"]["status"] == "skipped"
    assert "own-half is there as onnx in fp16" in rows["fp32"]["status_note"]
    assert "precision: [fp16]" in rows["fp32"]["status_note"]
    spec.write_text(SPEC.format(name="own-qdq", model="own-qdq", precision="int8"))
    farm_shell("sweep", "run", spec)
    [row_of_it] = _rows(farm_shell, "own-qdq").values()
    assert (row_of_it["precision"], row_of_it["status"]) == ("int8", "ok")
    assert row_of_it["source_stored"] == "QDQ: int8 weights, uint8 activations"


def _rows(farm_shell: Shell, sweep: str) -> dict[str, dict[str, Any]]:
    found = json.loads(farm_shell.fine("report", sweep, "-o", "json"))
    return {row["precision"]: row for row in found["rows"]}
