"""One suite for every converter, through the real child and on to a trial of what was made.

A converter joins by a line in ``CASES``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes import registry
from support.need import need
from support.runner_child import (
    SPEC,
    Bench,
    dataset_file,
    model_of,
    reference_file,
    require,
    write_onnx,
    write_unknown_operator,
)


@dataclass(frozen=True)
class Case:
    converter: str
    backend: str
    precision: str
    form: str
    files: frozenset[str]
    calibrated: bool = True


CASES = {
    case.converter: case
    for case in (
        Case("onnxruntime_quantize", "onnxruntime", "int8", "onnx", frozenset({"model.onnx"})),
        Case("onnx_fp16", "onnxruntime", "fp16", "onnx", frozenset({"model.onnx"}), False),
        Case(
            "openvino_fp16",
            "openvino",
            "fp16",
            "openvino_ir",
            frozenset({"model.xml", "model.bin"}),
            False,
        ),
        Case(
            "nncf_quantize",
            "openvino",
            "int8",
            "openvino_ir",
            frozenset({"model.xml", "model.bin"}),
        ),
        Case(
            "ncnn_pnnx",
            "ncnn",
            "fp16",
            "ncnn",
            frozenset({"model.param", "model.bin", "notes.json"}),
            False,
        ),
    )
}

ELSEWHERE = {
    *("edgetpu_compile", "executorch_lower", "executorch_quantize", "keras_onnx", "keras_save"),
    *("keras_savedmodel", "litert_torch", "openvino_convert", "tensorflow_freeze"),
    *("tensorflow_optimise", "tensorrt_build", "tf2onnx", "tflite_convert", "tflite_fp16"),
    *("tflite_quantize", "tftrt_convert", "torch_onnx", "trtexec_build", "tvm_compile"),
    "tvm_cross",
}
"""Tested with their backends, in ``test_tensorflow``, or in ``test_converters_torch``."""


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    found = CASES[request.param]
    facts = require(found.backend)
    offered = any(found.precision in target.precisions for target in facts.targets)
    need(found.backend, offered, f"{found.converter} is not installed")
    return found


@pytest.fixture
def calibrated(case: Case) -> Case:
    if not case.calibrated:
        pytest.skip(f"{case.converter} needs no calibration")
    return case


@pytest.fixture
def runtime(case: Case) -> RuntimeRef:
    return RuntimeRef(case.backend, precision=case.precision, threads=1)


@pytest.fixture
def bench(case: Case, tmp_path: Path) -> Bench:
    folder = tmp_path / "job"
    folder.mkdir()
    return Bench(case.backend, folder)


def test_every_converter_file_has_its_line_here() -> None:
    assert set(CASES) | ELSEWHERE == set(registry.converter_names())


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_model_is_quantised_runs_and_still_fits(
    case: Case, bench: Bench, runtime: RuntimeRef, tmp_path: Path, batch: int | str
) -> None:
    (tmp_path / "blobs").mkdir()
    source = write_onnx(tmp_path / "blobs" / "0123abcd", batch)
    before = source.read_bytes()
    model = model_of(source, "onnx")
    dataset = dataset_file(tmp_path / "dataset.npz")
    made = bench.convert(model, runtime, source, calibration="dataset", dataset=str(dataset))
    assert made.failure is None
    assert (made.status, made.format) == ("ok", case.form)
    artifact = Path(made.artifact)
    files = {p.name: p.stat().st_size for p in artifact.parent.iterdir()}
    assert set(files) == case.files
    assert made.size_bytes == sum(files.values())
    assert case.converter in made.steps[0]
    assert ("20 samples of the data set" in made.steps[0]) is case.calibrated
    assert made.seconds > 0
    # Nothing is left behind, neither in the job's folder nor beside the source.
    assert {p.name for p in bench.folder.iterdir()} == {"stage", artifact.parent.name}
    assert [p.name for p in source.parent.iterdir()] == ["0123abcd"]
    assert source.read_bytes() == before

    reference = reference_file(tmp_path / "reference.npz")
    found = bench.trial(model, runtime, artifact, reference, form=made.format, dataset=dataset)
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.passed
    assert found.fidelity.max_abs > 0.0  # it is another network: the precision really ran


def test_random_calibration_is_seeded_and_said(
    calibrated: Case, bench: Bench, runtime: RuntimeRef, tmp_path: Path
) -> None:
    source = write_onnx(tmp_path / "m.onnx", "N")
    model = model_of(source, "onnx")
    made = bench.convert(model, runtime, source, calibration="random")
    assert made.failure is None
    assert "random inputs" in made.steps[0]
    first = Path(made.artifact).read_bytes()
    again = bench.convert(model, runtime, source, calibration="random")
    assert again.failure is None
    if calibrated.form == "onnx":
        assert Path(again.artifact).read_bytes() == first


@pytest.mark.parametrize("calibration", ["", "dataset"])
def test_without_calibration_data_nothing_is_quantised(
    calibrated: Case, bench: Bench, runtime: RuntimeRef, tmp_path: Path, calibration: str
) -> None:
    source = write_onnx(tmp_path / "m.onnx")
    made = bench.convert(model_of(source, "onnx"), runtime, source, calibration=calibration)
    assert made.failure is not None
    assert (made.status, made.failure.stage, made.failure.kind) == (
        "failed",
        "convert",
        "calibration_missing",
    )
    assert (made.artifact, {p.name for p in bench.folder.iterdir()}) == ("", {"stage"})


def test_calibration_samples_of_another_shape_are_refused(
    calibrated: Case, bench: Bench, runtime: RuntimeRef, tmp_path: Path
) -> None:
    source = write_onnx(tmp_path / "m.onnx")
    dataset = tmp_path / "dataset.npz"
    np.savez(dataset, calibration=np.zeros((4, 9), np.float32))
    model = model_of(source, "onnx")
    made = bench.convert(model, runtime, source, calibration="dataset", dataset=str(dataset))
    assert made.failure is not None
    assert made.failure.kind == "bad_data"


def test_a_damaged_source_is_named(
    case: Case, bench: Bench, runtime: RuntimeRef, tmp_path: Path
) -> None:
    source = tmp_path / "m.onnx"
    source.write_bytes(write_onnx(source).read_bytes()[:-40])
    made = bench.convert(model_of(source, "onnx"), runtime, source, calibration="random")
    assert made.failure is not None
    assert (made.status, made.failure.stage, made.failure.kind) == (
        "failed",
        "convert",
        "bad_model",
    )


def test_an_unknown_operator_ends_as_a_failure_of_this_model(
    case: Case, bench: Bench, runtime: RuntimeRef, tmp_path: Path
) -> None:
    source = write_unknown_operator(tmp_path / "m.onnx")
    model = model_of(source, "onnx", (TensorSpec("x", "float32", (1, 3)),))
    made = bench.convert(model, runtime, source, calibration="random")
    if made.failure is None:  # it changes types only, whatever the operator
        blob = Path(made.artifact)
        reference = reference_file(tmp_path / "reference.npz")
        found = bench.trial(model, runtime, blob, reference, form=made.format)
        failure = found.failure
    else:
        failure = made.failure
    assert failure is not None
    assert failure.kind in ("unsupported_operator", "conversion_failed")
    assert "Frobnicate" in failure.message


@pytest.mark.parametrize(
    ("change", "kind", "word"),
    [
        ({"precision": "fp8"}, "unsupported_precision", "fp32"),
        ({"options": {"speed": 3}}, "bad_option", "'speed'"),
    ],
)
def test_what_cannot_be_made_is_named(
    case: Case,
    bench: Bench,
    runtime: RuntimeRef,
    tmp_path: Path,
    change: dict[str, Any],
    kind: str,
    word: str,
) -> None:
    source = write_onnx(tmp_path / "m.onnx")
    wanted = RuntimeRef(**{"backend": case.backend, "precision": case.precision, **change})
    made = bench.convert(model_of(source, "onnx"), wanted, source, calibration="random")
    assert made.failure is not None
    assert (made.failure.stage, made.failure.kind) == ("convert", kind)
    assert word in made.failure.message


def test_a_fixed_batch_larger_than_one_is_calibrated_on_whole_batches(
    case: Case, bench: Bench, runtime: RuntimeRef, tmp_path: Path
) -> None:
    source = write_onnx(tmp_path / "m.onnx", 8)
    model = model_of(source, "onnx", (TensorSpec("x", SPEC.dtype, (8, *SPEC.shape[1:])),))
    dataset = dataset_file(tmp_path / "dataset.npz")
    made = bench.convert(model, runtime, source, calibration="dataset", dataset=str(dataset))
    assert made.failure is None


# --- one tool's own options ---


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


@pytest.mark.parametrize(
    ("options", "words", "channels"),
    [
        ({}, "preset performance, weights per channel", 4),
        ({"preset": "mixed"}, "preset mixed, weights per channel", 4),
        ({"per_channel": "off"}, "preset performance, weights per tensor", 1),
    ],
)
def test_nncf_quantises_as_the_options_say(
    tmp_path: Path, options: dict[str, Any], words: str, channels: int
) -> None:
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    require("openvino")
    (tmp_path / "job").mkdir()
    bench = Bench("openvino", tmp_path / "job")
    source = write_onnx(tmp_path / "m.onnx")
    model = model_of(source, "onnx")
    runtime = RuntimeRef("openvino", precision="int8", threads=1, options=options)
    dataset = dataset_file(tmp_path / "dataset.npz")
    made = bench.convert(model, runtime, source, calibration="dataset", dataset=str(dataset))
    assert made.failure is None
    assert words in made.steps[0]
    operators = openvino.Core().read_model(made.artifact).get_ops()
    (weights,) = (op for op in operators if "conv/WithoutBiases/fq" in str(op.get_friendly_name()))
    assert int(np.prod(tuple(weights.input_value(1).get_shape()))) == channels  # its scales
    reference = reference_file(tmp_path / "reference.npz")
    found = bench.trial(model, runtime, Path(made.artifact), reference, form=made.format)
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.passed
