"""A precision is named only where it came about, and as far as it did; what a converter or a
runtime cannot do is said with whose doing it is."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from support import onnx_files
from support.cli import Shell

SWEEP = """
name: {name}
models: [{models}]
runtimes:
{runtimes}
trials: 1
scenario: {{min_duration_s: 0.02, max_duration_s: 0.1, warm_up_s: 0.0, min_samples: 10}}
"""
FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
RANDOM = np.random.default_rng(4)


def weights(*shape: int) -> np.ndarray[Any, Any]:
    return RANDOM.standard_normal(shape).astype(np.float32)


def network(
    nodes: list[Any],
    shape: list[int],
    gives: list[int],
    constants: dict[str, Any],
    opset: int = 17,
    kind: int = FLOAT,
) -> onnx.ModelProto:
    made = onnx_files.model(
        nodes,
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, gives)],
        constants,
    )
    made.opset_import[0].version = opset
    made.ir_version = 8
    return made


def convolution(opset: int) -> onnx.ModelProto:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    return network([node], [1, 3, 8, 8], [1, 4, 6, 6], {"w": weights(4, 3, 3, 3)}, opset)


def lstm() -> onnx.ModelProto:
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=8)
    return network(
        [node], [4, 1, 6], [4, 1, 1, 8], {"w": weights(1, 32, 6), "r": weights(1, 32, 8)}
    )


def half_quantised() -> onnx.ModelProto:
    """A dense layer, which ONNX Runtime quantises, before an LSTM, which it does not."""
    dense = helper.make_node("MatMul", ["x", "d"], ["h"])
    cell = helper.make_node("LSTM", ["h", "w", "r"], ["y"], hidden_size=8)
    constants = {"d": weights(6, 6), "w": weights(1, 32, 6), "r": weights(1, 32, 8)}
    return network([dense, cell], [4, 1, 6], [4, 1, 1, 8], constants)


def dropout_in_use() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Dropout", ["x", "none", "training"], ["d"]),
        helper.make_node("Add", ["d", "d"], ["y"]),
    ]
    constants = {"none": np.float32(0.0), "training": np.array(True)}
    return network(nodes, [1, 4], [1, 4], constants)


def doubles() -> onnx.ModelProto:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return network([node], [1, 4], [1, 3], {"w": np.ones((4, 3))}, kind=DOUBLE)


def grid_of_five() -> onnx.ModelProto:
    """``GridSample`` of volumes, whose grid is a weight."""
    node = helper.make_node("GridSample", ["x", "grid"], ["y"])
    grid = {"grid": weights(1, 2, 2, 2, 3)}
    return network([node], [1, 1, 3, 3, 3], [1, 1, 2, 2, 2], grid, opset=20)


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "share-lstm": lstm,
    "share-doubles": doubles,
    "share-half": half_quantised,
    "share-conv7": lambda: convolution(7),
    "share-dropout": dropout_in_use,
    "share-grid": grid_of_five,
}


SWEEPS = {
    "shares": (
        ["share-lstm", "share-half", "share-conv7"],
        "{backend: onnxruntime, precision: int8}",
    ),
    "halves": (["share-lstm"], "{backend: onnxruntime, precision: fp16}"),
    "refused": (["share-dropout", "share-grid"], "{backend: openvino, precision: fp32}"),
    "refused-int8": (["share-dropout", "share-doubles"], "{backend: openvino, precision: int8}"),
}


@pytest.fixture(scope="module")
def rows(farm_shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """``MODEL BACKEND PRECISION`` → its row of a sweep's CSV."""
    folder = tmp_path_factory.mktemp("networks")
    for name, make in MODELS.items():
        path = folder / f"{name}.onnx"
        onnx.save(make(), str(path))
        farm_shell.fine("model", "add", path)
    found: dict[str, dict[str, str]] = {}
    for name, (models, runtime) in SWEEPS.items():
        spec = folder / f"{name}.yaml"
        chosen = ", ".join(f"{{name: {model}, calibration: random}}" for model in models)
        spec.write_text(SWEEP.format(name=name, models=chosen, runtimes=f"  - {runtime}"))
        farm_shell("sweep", "run", spec)
        text = farm_shell.fine("report", name, "-o", "csv")
        for row in csv.DictReader(io.StringIO(text)):
            found[f"{row['model']} {row['backend']} {row['precision']}"] = row
    return found


def test_where_nothing_was_converted_there_is_no_figure(rows: dict[str, dict[str, str]]) -> None:
    row = rows["share-lstm onnxruntime int8"]
    assert (row["status"], row["failure_kind"]) == ("unsupported", "unsupported_precision")
    assert (
        "onnxruntime_quantize made nothing of this network int8: 0 of 1" in row["failure_message"]
    )
    assert row["failure_fault"] == "input"


def test_an_old_opset_is_raised_for_scales_per_channel(rows: dict[str, dict[str, str]]) -> None:
    row = rows["share-conv7 onnxruntime int8"]
    assert row["status"] == "ok", row["failure_message"]
    assert float(row["precision_weights"]) == float(row["precision_macs"]) == 1.0


def test_a_share_stands_in_the_report(farm_shell: Shell, rows: dict[str, dict[str, str]]) -> None:
    row = rows["share-half onnxruntime int8"]
    assert row["status"] == "ok", row["failure_message"]
    # 36 of 36 + 192 + 256 weights; 4 steps of 36 of as many MACs a step.
    assert float(row["precision_weights"]) == pytest.approx(36 / 484)
    assert float(row["precision_macs"]) == pytest.approx(36 / 484)
    assert float(row["precision_operators"]) == 0.5
    text = farm_shell.fine("report", "shares", "-o", "markdown")
    assert "| Converted |" in text
    assert "| 7.4% of MACs |" in text


def test_the_share_of_fp16_is_whole_where_it_is(rows: dict[str, dict[str, str]]) -> None:
    row = rows["share-lstm onnxruntime fp16"]
    assert row["status"] == "ok", row["failure_message"]
    assert float(row["precision_weights"]) == 1.0


@pytest.mark.parametrize(
    ("cell", "operator", "words"),
    [
        ("share-dropout openvino fp32", "Dropout", "Training mode is not supported"),
        ("share-dropout openvino int8", "Dropout", "Training mode is not supported"),
        ("share-grid openvino fp32", "GridSample", "only supported for 4D"),
        ("share-doubles openvino int8", "", "does not support f64"),
    ],
)
def test_a_refused_use_of_an_operator_is_a_result_in_the_runtimes_words(
    rows: dict[str, dict[str, str]], cell: str, operator: str, words: str
) -> None:
    row = rows[cell]
    assert (row["status"], row["failure_fault"]) == ("unsupported", "input"), row["failure_message"]
    assert operator in row["failure_message"]
    assert words in row["failure_message"]
    assert "\n" not in row["failure_message"]
    assert ".cpp" not in row["failure_message"]


def test_a_quantised_file_is_not_converted_again(farm_shell: Shell, tmp_path: Path) -> None:
    source, made = tmp_path / "again.onnx", tmp_path / "int8.onnx"
    onnx.save(convolution(12), str(source))
    convert = ("model", "convert")
    random = ("--precision", "int8", "--calibration", "random")
    farm_shell.fine(*convert, source, "--to", "onnx", *random, "--output", made)
    for precision in (random, ("--precision", "fp16")):
        ended = farm_shell(*convert, made, "--to", "onnx", *precision, "--output", tmp_path / "no")
        assert ended.returncode in (1, 2)
        assert "int8" in ended.stderr or "quantised" in ended.stderr
        assert not (tmp_path / "no").exists()


def test_a_format_without_a_way_names_the_nearest_ones(farm_shell: Shell, tmp_path: Path) -> None:
    source = tmp_path / "way.onnx"
    onnx.save(convolution(17), str(source))
    said = farm_shell.refused("model", "convert", source, "--to", "tflite")
    assert "from pt2 by litert_torch" in said
    assert "benchfarm-agent runtimes add pytorch@litert" in said.replace("\n", " ")
    said = farm_shell.refused("model", "convert", source, "--to", "tflite", "--precision", "int8")
    assert "from pt2 by litert_quantize" in said.replace("\n", " ")


def test_a_registered_model_is_converted_with_what_it_was_registered_with(
    farm_shell: Shell, tmp_path: Path
) -> None:
    """Its shape for the free dimension, and its data set to calibrate on."""
    source, data = tmp_path / "sized.onnx", tmp_path / "sized.npz"
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    made = network([node], [1, 4], [1, 3], {"w": weights(4, 3)})
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    made.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.save(made, str(source))
    inputs = weights(12, 4)
    labels = inputs @ np.frombuffer(made.graph.initializer[0].raw_data, np.float32).reshape(4, 3)
    np.savez(data, inputs=inputs, labels=labels.argmax(axis=1), calibration=inputs)
    farm_shell.fine("model", "add", source, "--dataset", data, "--shape", "x=1,4")
    to = ("--to", "onnx", "--precision", "int8", "--output", tmp_path / "sized-int8.onnx")
    said = farm_shell.fine("model", "convert", "sized", *to)
    assert "calibrated on 12 samples of the data set" in said.replace("\n", " ")
