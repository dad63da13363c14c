"""TensorFlow's formats through the runner's own children, and the ways between formats."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from agent.contract.conversion_graph import cheapest
from agent.contract.trial import RuntimeRef
from agent.runtimes import registry
from support import tensorflow_lab
from support.runner_child import SPEC, Bench, dataset_file, model_of, reference_file, require


@pytest.mark.parametrize("name", ["free.keras", "free.h5", "frozen", "optimised"])
def test_a_trial_and_its_reference(
    files: Path, made: tensorflow_lab.Tasks, tmp_path: Path, name: str
) -> None:
    """SavedModels go through the whole common suite, in ``tests/contract/backends``."""
    forms = {"frozen": "frozen_pb", "optimised": "optimised_pb"}
    blob = tmp_path / ("a" * 64)
    source = Path(made[name]["artifact"]) if name in forms else files / name
    shutil.copyfile(source, blob)
    model = model_of(blob, forms.get(name, name.split(".")[-1]), (SPEC,))
    bench = Bench("tensorflow", tmp_path)
    referenced = bench.reference(model, blob)
    assert referenced.failure is None
    assert "grappler off" in referenced.origin
    found = bench.trial(model, RuntimeRef("tensorflow", threads=1), blob, Path(referenced.path))
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.max_abs < 1e-5
    assert found.phases.load_warm_s is not None


def test_a_savedmodel_is_converted_by_the_verb_and_runs_elsewhere(
    files: Path, tmp_path: Path
) -> None:
    require("litert")
    source = files / "free.zip"
    model = model_of(source, "savedmodel", (replace(SPEC, layout="NCHW"),))
    data = dataset_file(tmp_path / "dataset.npz")
    runtime = RuntimeRef("tflite", precision="int8", threads=1)
    made = Bench("tensorflow", tmp_path).convert(
        model, runtime, source, calibration="dataset", dataset=str(data)
    )
    assert made.failure is None
    assert "20 samples of the data set" in made.steps[0]
    reference = reference_file(tmp_path / "reference.npz")
    found = Bench("tflite", tmp_path, "litert").trial(
        model, runtime, Path(made.artifact), reference, form=made.format, dataset=data, top1=1.0
    )
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.passed
    assert found.accuracy is not None
    assert found.accuracy.top1 > 0.8


@pytest.mark.parametrize(
    ("start", "goal", "way"),
    [
        (("keras", "fp32"), ("tflite", "int8"), ["keras_savedmodel", "tflite_quantize"]),
        (
            ("h5", "fp32"),
            ("optimised_pb", "fp32"),
            ["keras_savedmodel", "tensorflow_freeze", "tensorflow_optimise"],
        ),
        (("keras", "fp32"), ("onnx", "fp32"), ["keras_savedmodel", "tf2onnx"]),
        (("tflite", "int8"), ("openvino_ir", "int8"), ["openvino_convert"]),
        (("frozen_pb", "fp32"), ("openvino_ir", "fp32"), ["openvino_convert"]),
        (("onnx", "fp32"), ("savedmodel", "fp32"), None),
    ],
)
def test_the_cheapest_way(
    start: tuple[str, str], goal: tuple[str, str], way: list[str] | None
) -> None:
    edges = [e for n in registry.converter_names() for e in registry.find_converter(n).edges]
    found = cheapest(edges, [start], [goal])
    assert (None if found is None else [edge.converter for edge in found]) == way
