"""What each converter out of TensorFlow makes, and that it computes the same elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes import registry
from support import tensorflow_lab
from support.runner_child import SPEC, Bench, model_of, reference_file, require
from support.tensorflow_made import good


@pytest.mark.parametrize(
    ("key", "written", "names"),
    [
        ("exported", ["savedmodel"], ("x", "output_0")),
        ("exported_h5", ["savedmodel"], ("x", "output_0")),
        ("as_h5", ["model.h5"], ("x", "")),
        ("as_keras", ["model.keras"], ("x", "")),
        ("frozen", ["model.pb"], ("x", "Identity")),
        ("frozen_free", ["model.pb"], ("x", "Identity")),
        ("optimised", ["model.pb"], ("x", "Identity")),
        ("tflite", ["model.tflite"], ("x", "output_0")),
        ("tflite_int8", ["model.tflite"], ("x", "output_0")),
        ("onnx_savedmodel", ["model.onnx"], ("x", "Identity:0")),
        ("onnx_frozen", ["model.onnx"], ("x:0", "Identity:0")),
        ("onnx_keras", ["model.onnx"], ("x", "Identity:0")),
    ],
)
def test_a_converter_writes_its_files_and_tells_their_names(
    made: tensorflow_lab.Tasks, key: str, written: list[str], names: tuple[str, str]
) -> None:
    result = good(made, key)
    assert result["files"] == written
    assert tuple(next(iter(s["name"] for s in result[k]), "") for k in ("inputs", "outputs")) == (
        names
    )
    shape = [-1, 3, 6, 6] if key == "frozen_free" else [1, 3, 6, 6]
    assert [spec["shape"] for spec in result["inputs"]] == [shape]
    if result["outputs"]:
        assert result["inputs"][0]["layout"] == "NCHW"


def test_an_optimised_graph_is_smaller(made: tensorflow_lab.Tasks) -> None:
    frozen, optimised = (Path(good(made, k)["artifact"]) for k in ("frozen", "optimised"))
    assert optimised.stat().st_size < frozen.stat().st_size
    words = good(made, "optimised")["step"].split(", ")[-1]
    after, before = (int(word) for word in words.split() if word.isdigit())
    assert 0 < after < before


def test_a_quantisation_says_what_it_did(made: tensorflow_lab.Tasks) -> None:
    assert (
        "full integer, weights per channel, inputs and outputs float32, calibrated on noise"
        in good(made, "tflite_int8")["step"]
    )
    assert "per tensor, inputs and outputs int8" in good(made, "tflite_per_tensor")["step"]
    assert good(made, "tflite_per_tensor")["inputs"][0]["dtype"] == "int8"
    assert "dynamic range" in good(made, "tflite_dynamic")["step"]


def test_a_network_with_nothing_to_quantise_is_no_int8(made: tensorflow_lab.Tasks) -> None:
    assert made["nothing_to_quantise"]["status"] == "unsupported"
    assert "made nothing of this network int8" in made["nothing_to_quantise"]["message"]


def artifact(made: tensorflow_lab.Tasks, key: str) -> tuple[Path, TensorSpec]:
    result = good(made, key)
    (spec,) = result["inputs"]
    dtype = "float32"  # an integer file is fed real values
    return Path(result["artifact"]), replace(SPEC, name=spec["name"], dtype=dtype, layout="NCHW")


@pytest.mark.parametrize(
    ("key", "environment", "precision", "tolerance"),
    [
        ("tflite", "tflite@litert", "fp32", 1e-4),
        ("tflite", "tflite@tflite-runtime", "fp32", 1e-4),
        ("tflite_fp16", "tflite@litert", "fp16", 1e-2),
        ("tflite_int8", "tflite@litert", "int8", 0.3),
        ("tflite_per_tensor", "tflite@litert", "int8", 0.3),
        *(
            (f"onnx_{source}", "onnxruntime", "fp32", 1e-4)
            for source in ("savedmodel", "frozen", "optimised", "tflite", "keras", "h5")
        ),
        ("onnx_tflite_int8", "onnxruntime", "int8", 0.3),
    ],
)
def test_what_was_made_for_another_runtime_computes_the_same_there(
    made: tensorflow_lab.Tasks,
    tmp_path: Path,
    key: str,
    environment: str,
    precision: str,
    tolerance: float,
) -> None:
    require(environment)
    path, spec = artifact(made, key)
    backend = environment.partition("@")[0]
    found = Bench(backend, tmp_path, environment).trial(
        model_of(path, path.suffix[1:], (spec,)),
        RuntimeRef(backend, precision=precision, threads=1),
        path,
        named_reference(tmp_path, spec.name),
    )
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.passed
    assert found.fidelity.max_abs < tolerance


def named_reference(folder: Path, name: str) -> Path:
    path = reference_file(folder / "reference.npz")
    with np.load(path) as file:
        arrays = {f"input:{name}": file["input:x"], "output:y": file["output:y"]}
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("key", "precision"),
    [
        *((k, "fp32") for k in ("exported", "frozen", "optimised", "tflite", "onnx_keras")),
        ("tflite_int8", "int8"),
    ],
)
def test_openvino_reads_them_all(
    made: tensorflow_lab.Tasks, tmp_path: Path, key: str, precision: str
) -> None:
    require("openvino")
    from agent.runtimes.converter import Calibration

    path, spec = artifact(made, key)
    folder = tmp_path / "made"
    folder.mkdir()
    result = registry.find_converter("openvino_convert").convert(path, folder, Calibration([], ""))
    assert {p.name for p in folder.iterdir()} == {"model.xml", "model.bin"}
    assert result.inputs is not None
    assert [s.name for s in result.inputs] == [spec.name]
    found = Bench("openvino", tmp_path).trial(
        model_of(result.artifact, "openvino_ir", (replace(spec, layout=""),)),
        RuntimeRef("openvino", precision=precision, threads=1),
        result.artifact,
        named_reference(tmp_path, spec.name),
    )
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.passed
