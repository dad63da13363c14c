"""ONNX Runtime in the common suites, and the options of its converters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.contract.trial import RuntimeRef
from support.runner_child import (
    Bench,
    dataset_file,
    model_of,
    reference_file,
    require,
    write_onnx,
)
from support.runtime_contract import BackendCase, ConverterCase, RuntimeContract

_FILES = frozenset({"model.onnx"})
CONTRACT = RuntimeContract(
    backends=(
        BackendCase("onnxruntime", "onnx", "onnxruntime", ("graph_optimization", "disable")),
    ),
    converters=(
        ConverterCase(
            *("onnxruntime_quantize", "onnxruntime", "int8", "onnx", _FILES), calibrated=True
        ),
        ConverterCase("onnx_fp16", "onnxruntime", "fp16", "onnx", _FILES),
    ),
)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "u8 activations s8 weights per channel, minmax"),
        ({"per_channel": "off"}, "u8 activations s8 weights per tensor, minmax"),
        ({"per_channel": False}, "u8 activations s8 weights per tensor, minmax"),  # YAML's off
        ({"activation_type": "s8"}, "s8 activations s8 weights per channel, minmax"),
        ({"calibration_method": "entropy"}, "per channel, entropy"),
        ({"calibration_method": "percentile"}, "per channel, percentile"),
    ],
)
def test_onnxruntime_quantises_as_the_options_say(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    onnx = pytest.importorskip("onnx")
    require("onnxruntime")
    (tmp_path / "job").mkdir()
    bench = Bench("onnxruntime", tmp_path / "job")
    source = write_onnx(tmp_path / "m.onnx")
    model = model_of(source, "onnx")
    runtime = RuntimeRef("onnxruntime", precision="int8", threads=1, options=options)
    dataset = dataset_file(tmp_path / "dataset.npz")
    made = bench.convert(model, runtime, source, calibration="dataset", dataset=str(dataset))
    assert made.failure is None
    assert words in made.steps[0]
    graph = onnx.load(made.artifact).graph
    weights = {i.name: i for i in graph.initializer}
    assert len(weights["kernel_scale"].dims) == int("per channel" in made.steps[0])
    points = {i.data_type for n, i in weights.items() if n == "x_zero_point"}
    signed = options.get("activation_type") == "s8"
    assert points == {onnx.TensorProto.INT8 if signed else onnx.TensorProto.UINT8}
    reference = reference_file(tmp_path / "reference.npz")
    found = bench.trial(model, runtime, Path(made.artifact), reference, form=made.format)
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.passed


def test_a_bad_option_of_a_converter_is_refused(tmp_path: Path) -> None:
    require("onnxruntime")
    bench = Bench("onnxruntime", tmp_path)
    source = write_onnx(tmp_path / "m.onnx")
    runtime = RuntimeRef("onnxruntime", precision="int8", options={"calibration_method": "guess"})
    made = bench.convert(model_of(source, "onnx"), runtime, source, calibration="random")
    assert made.failure is not None
    assert made.failure.kind == "bad_option"
    assert "minmax, entropy, percentile" in made.failure.message


def test_fp16_keeps_its_inputs_and_outputs_and_halves_its_weights(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    require("onnxruntime")
    bench = Bench("onnxruntime", tmp_path)
    source = write_onnx(tmp_path / "m.onnx")
    runtime = RuntimeRef("onnxruntime", precision="fp16")
    made = bench.convert(model_of(source, "onnx"), runtime, source)
    assert made.failure is None
    graph = onnx.load(made.artifact).graph
    ports = [*graph.input, *graph.output]
    assert {p.type.tensor_type.elem_type for p in ports} == {onnx.TensorProto.FLOAT}
    assert {i.data_type for i in graph.initializer} == {onnx.TensorProto.FLOAT16}
