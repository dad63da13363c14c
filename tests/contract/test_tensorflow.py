"""What is TensorFlow's own: its five formats, the ways between them and out of them, and what is
refused. Backends and converters are run in one process of the TensorFlow interpreter (see
``support.tensorflow_lab``); what they made for others runs under these in children of the runner.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract import RuntimeRef, TensorSpec
from agent.graph import cheapest
from agent.runner import converters
from support import tensorflow_files, tensorflow_lab
from support.runner_child import (
    SPEC,
    Bench,
    dataset_file,
    expected,
    model_of,
    python_of,
    reference_file,
    require,
)

X = np.random.RandomState(9).standard_normal(SPEC.shape).astype(np.float32)
SPECS = [vars(SPEC)]
VALUES, TOKENS = "b größe 2", "a"
OPTIONS = {
    "session": {"call": "session"},
    "xla": {"xla": "on"},
    "grappler_off": {"grappler": "off"},
}
BROKEN = (
    *("damaged_free.keras", "damaged_free.h5", "damaged.pb", "empty.pb", "damaged", "bare"),
    *("missing.keras", "missing.pb", "missing"),
)
MADE = ("exported", "exported_h5", "as_h5", "as_keras", "frozen", "optimised")
RUNS = (*MADE, "free.keras", "free.h5", "free", "fixed", "frozen_session", *OPTIONS)
SEQUENCE_IN = [
    {"name": VALUES, "dtype": "float32", "shape": [1, 4], "layout": ""},
    {"name": TOKENS, "dtype": "int32", "shape": [1, 5], "layout": ""},
]
SEQUENCE_OUT = [
    {"name": f"part {n}", "dtype": "float32", "shape": [1, n + 1], "layout": ""} for n in range(12)
]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("tensorflow")
    return tensorflow_files.build(tmp_path_factory.mktemp("tensorflow"))


def small(**more: Any) -> dict[str, Any]:
    return {"inputs": SPECS, **more}


@pytest.fixture(scope="session")
def made(files: Path, tmp_path_factory: pytest.TempPathFactory) -> tensorflow_lab.Tasks:
    """Every converter on the small model, and every format run; one process."""
    np.savez(files / "x.npz", X)
    for name in ("free.keras", "free.h5"):
        (files / f"damaged_{name}").write_bytes((files / name).read_bytes()[:-400])
    (files / "damaged.pb").write_bytes(b"no graph at all")
    (files / "empty.pb").write_bytes(b"")
    shutil.copytree(files / "free", files / "damaged")
    (files / "damaged" / "saved_model.pb").write_bytes(b"no graph at all")
    shutil.copytree(files / "free", files / "bare")
    shutil.rmtree(files / "bare" / "variables")
    run = {"feed": str(files / "x.npz")}
    int8 = {"calibrate": True, "precision": "int8"}
    dynamic = {"precision": "int8", "options": {"quantisation": "dynamic_range"}}
    tasks: tensorflow_lab.Tasks = {
        "exported": small(convert="keras_savedmodel", source=str(files / "free.keras")),
        "exported_h5": small(convert="keras_savedmodel", source=str(files / "free.h5")),
        "as_h5": small(convert="keras_save", source=str(files / "free.keras")),
        "as_keras": small(convert="keras_save", source=str(files / "free.h5")),
        "frozen": {"convert": "tensorflow_freeze", "source": "@exported"},
        "frozen_free": {"convert": "tensorflow_freeze", "source": str(files / "free")},
        "optimised": {"convert": "tensorflow_optimise", "source": "@frozen"},
        "tflite": small(convert="tflite_convert", source=str(files / "free")),
        "tflite_fp16": small(convert="tflite_fp16", source=str(files / "free")),
        "tflite_int8": small(convert="tflite_quantize", source=str(files / "free"), **int8),
        "tflite_per_tensor": small(
            convert="tflite_quantize",
            source=str(files / "free"),
            **{**int8, "options": {"per_channel": "off", "quantised_io": "int8"}},
        ),
        "tflite_dynamic": {
            "convert": "tflite_quantize",
            "source": str(files / "wide"),
            **dynamic,
        },
        "nothing_to_quantise": small(
            convert="tflite_quantize", source=str(files / "free"), **dynamic
        ),
        "onnx_savedmodel": {"convert": "tf2onnx", "source": "@exported"},
        "onnx_frozen": {"convert": "tf2onnx", "source": "@frozen"},
        "onnx_optimised": {"convert": "tf2onnx", "source": "@optimised"},
        "onnx_tflite": {"convert": "tf2onnx", "source": "@tflite"},
        "onnx_tflite_int8": {"convert": "tf2onnx", "source": "@tflite_int8"},
        "onnx_keras": small(convert="keras_onnx", source=str(files / "free.keras")),
        "onnx_h5": small(convert="keras_onnx", source=str(files / "free.h5")),
        "nhwc": {"convert": "keras_savedmodel", "source": str(files / "nhwc.keras")},
        **{f"run_{key}": {"run": f"@{key}", **run} for key in MADE},
        **{
            f"run_{name}": small(run=str(files / name), **run)
            for name in ("free.keras", "free.h5", "free", "fixed")
        },
        **{
            f"run_{name}": small(run=str(files / "free"), **run, options=options)
            for name, options in OPTIONS.items()
        },
        "run_frozen_session": {"run": "@frozen", **run, "options": {"call": "session"}},
        "session_of_keras": small(
            run=str(files / "free.keras"), **run, options={"call": "session"}
        ),
        **{
            f"refused_{name}": small(run=str(files / name), **run)
            for name in ("lambda.keras", "lambda.h5", "own.keras", "reader", "cholesky")
        },
        **{f"broken_{name}": small(run=str(files / name), **run) for name in BROKEN},
        "cholesky_tflite": {"convert": "tflite_convert", "source": str(files / "cholesky")},
        "cholesky_onnx": {"convert": "tf2onnx", "source": str(files / "cholesky")},
        "tftrt": small(convert="tftrt_convert", source=str(files / "free"), precision="fp16"),
    }
    folder = tmp_path_factory.mktemp("lab")
    return tensorflow_lab.work(python_of("tensorflow"), folder, tasks)


def good(made: tensorflow_lab.Tasks, key: str) -> dict[str, Any]:
    result = made[key]
    assert "message" not in result, result
    return result


def output(result: dict[str, Any], number: int = 0) -> Any:
    with np.load(result["result"]) as file:
        return file[f"arr_{number}"]


# --- sessions ---


@pytest.mark.parametrize("key", RUNS)
def test_every_format_computes_the_same_network(made: tensorflow_lab.Tasks, key: str) -> None:
    result = good(made, f"run_{key}")
    np.testing.assert_allclose(output(result), expected(X), atol=1e-5)
    assert result["repeats"]
    assert result["follows"]
    assert result["closed"]


@pytest.mark.parametrize("key", RUNS)
def test_the_timed_call_is_no_keras_call_and_is_traced_once(
    made: tensorflow_lab.Tasks, key: str
) -> None:
    """RUNTIMES trap 7: ``predict`` and ``model(x)`` measure Keras."""
    result = good(made, f"run_{key}")
    assert result["keras_calls"] == 0
    if "session" not in key:
        assert "Concrete" in result["callable"] or "AtomicFunction" in result["callable"]
        assert result["traces"] == 1
    assert ("session" if "session" in key else "function") in result["placement"]


def test_the_placement_says_what_was_chosen(made: tensorflow_lab.Tasks) -> None:
    assert "XLA" in good(made, "run_xla")["placement"]
    assert "grappler off" in good(made, "run_grappler_off")["placement"]
    assert "grappler on" in good(made, "run_free")["placement"]


@pytest.mark.parametrize("key", RUNS)
def test_the_layout_is_followed_through_a_transposition(
    made: tensorflow_lab.Tasks, key: str
) -> None:
    (spec,) = good(made, f"run_{key}")["inputs"]
    assert (spec["name"], spec["shape"], spec["layout"]) == ("x", [1, 3, 6, 6], "NCHW")


def test_the_layout_of_a_channels_last_network_is_told(made: tensorflow_lab.Tasks) -> None:
    (spec,) = good(made, "nhwc")["inputs"]
    assert (spec["shape"], spec["layout"]) == ([-1, 6, 6, 3], "NHWC")


def test_a_session_of_a_keras_file_is_refused_with_what_to_do(made: tensorflow_lab.Tasks) -> None:
    refused = made["session_of_keras"]
    assert refused["kind"] == "bad_option"
    assert "format: savedmodel" in refused["message"]


# --- refused ---


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("lambda.keras", "bad_model", "Lambda, which runs code when loaded"),
        ("lambda.h5", "bad_model", "Lambda, which runs code when loaded"),
        ("own.keras", "unsupported_operator", "Own: it is not Keras's own"),
        ("reader", "bad_model", "ReadFile, which touches files"),
        ("cholesky", "unsupported_shape", "[1, 2, 2], asked for [1, 3, 6, 6]"),
    ],
)
def test_what_is_refused(made: tensorflow_lab.Tasks, name: str, kind: str, words: str) -> None:
    refused = made[f"refused_{name}"]
    assert refused["kind"] == kind
    assert words in refused["message"]


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_or_missing_file_is_a_bad_model(made: tensorflow_lab.Tasks, name: str) -> None:
    refused = made[f"broken_{name}"]
    assert (refused["kind"], refused["status"]) == ("bad_model", "failed")
    assert name in refused["message"]
    assert len(refused["message"]) < 600


@pytest.mark.parametrize("key", ["cholesky_tflite", "cholesky_onnx"])
def test_an_operator_that_the_target_lacks_is_named(made: tensorflow_lab.Tasks, key: str) -> None:
    assert made[key]["kind"] == "unsupported_operator"
    assert "Cholesky" in made[key]["message"]


def test_openvino_names_the_operator_that_it_lacks(files: Path, tmp_path: Path) -> None:
    require("openvino")
    converter = converters.find("openvino_convert")
    from agent.runner.converters.base import Calibration
    from agent.runner.errors import UnsupportedOperator

    with pytest.raises(UnsupportedOperator, match="Cholesky"):
        converter.convert(files / "cholesky", tmp_path, Calibration([], ""))


def test_tensorrt_in_tensorflow_needs_an_older_one(made: tensorflow_lab.Tasks) -> None:
    assert made["tftrt"]["kind"] == "runtime_missing"
    assert "install TensorFlow 2.17 or older and its TensorRT" in made["tftrt"]["message"]


# --- what each converter makes ---


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
    assert "came out as fp32" in made["nothing_to_quantise"]["message"]


def artifact(made: tensorflow_lab.Tasks, key: str) -> tuple[Path, TensorSpec]:
    result = good(made, key)
    (spec,) = result["inputs"]
    dtype = "float32"  # an integer file is fed real values
    return Path(result["artifact"]), replace(SPEC, name=spec["name"], dtype=dtype, layout="NCHW")


@pytest.mark.parametrize(
    ("key", "python", "precision", "tolerance"),
    [
        ("tflite", "litert", "fp32", 1e-4),
        ("tflite", "tflite", "fp32", 1e-4),
        ("tflite_fp16", "litert", "fp16", 1e-2),
        ("tflite_int8", "litert", "int8", 0.3),
        ("tflite_per_tensor", "litert", "int8", 0.3),
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
    python: str,
    precision: str,
    tolerance: float,
) -> None:
    require(python)
    path, spec = artifact(made, key)
    backend = "onnxruntime" if python == "onnxruntime" else "tflite"
    found = Bench(backend, tmp_path, python).trial(
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
    from agent.runner.converters.base import Calibration

    path, spec = artifact(made, key)
    folder = tmp_path / "made"
    folder.mkdir()
    result = converters.find("openvino_convert").convert(path, folder, Calibration([], ""))
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


# --- several inputs, integers, a sequence, and names that sort otherwise than they stand ---


@pytest.fixture(scope="session")
def sequence(files: Path, tmp_path_factory: pytest.TempPathFactory) -> tensorflow_lab.Tasks:
    values = np.random.RandomState(3).standard_normal((1, 4)).astype(np.float32)
    np.savez(files / "sequence.npz", values, np.array([[1, 7, 0, 3, 2]], np.int32))
    ports = {"inputs": SEQUENCE_IN, "outputs": SEQUENCE_OUT}
    source = str(files / "sequence.keras")
    run = {"feed": str(files / "sequence.npz")}
    session = {**run, "options": {"call": "session"}}
    tasks: tensorflow_lab.Tasks = {
        "source": {"run": source, "inputs": SEQUENCE_IN, **run},
        "exported": {"convert": "keras_savedmodel", "source": source, **ports},
        "frozen": {"convert": "tensorflow_freeze", "source": "@exported"},
        "optimised": {"convert": "tensorflow_optimise", "source": "@frozen"},
        "tflite": {"convert": "tflite_convert", "source": "@exported"},
        "onnx": {"convert": "tf2onnx", "source": "@exported"},
        "onnx_tflite": {"convert": "tf2onnx", "source": "@tflite"},
        "onnx_keras": {"convert": "keras_onnx", "source": source, **ports},
        "quantised": {
            "convert": "tflite_quantize",
            "source": "@exported",
            "calibrate": True,
            "precision": "int8",
        },
        "run_exported": {"run": "@exported", **run},
        # Two graphs whose loops have the same names cannot be functions of one process.
        "run_frozen": {"run": "@frozen", **run},
        "run_optimised": {"run": "@optimised", **session},
    }
    folder = tmp_path_factory.mktemp("sequence")
    return tensorflow_lab.work(python_of("tensorflow"), folder, tasks)


@pytest.mark.parametrize("key", ["exported", "frozen", "optimised"])
def test_inputs_and_outputs_keep_their_order_whatever_they_are_called(
    sequence: tensorflow_lab.Tasks, key: str
) -> None:
    result = good(sequence, f"run_{key}")
    assert [s["dtype"] for s in good(sequence, key)["inputs"]] == ["float32", "int32"]
    assert [s["shape"][1] for s in good(sequence, key)["outputs"]] == list(range(1, 13))
    for number in range(12):
        np.testing.assert_allclose(
            output(result, number), output(good(sequence, "source"), number), atol=1e-5
        )


def test_a_keras_file_keeps_its_names_spaces_and_accents_included(
    sequence: tensorflow_lab.Tasks,
) -> None:
    result = good(sequence, "source")
    assert [spec["name"] for spec in result["inputs"]] == [VALUES, TOKENS]
    assert [spec["name"] for spec in result["outputs"]] == [f"part {n}" for n in range(12)]


@pytest.mark.parametrize("key", ["onnx", "onnx_keras", "onnx_tflite", "tflite"])
def test_a_sequence_with_integers_computes_the_same_elsewhere(
    sequence: tensorflow_lab.Tasks, files: Path, tmp_path: Path, key: str
) -> None:
    python = "litert" if key == "tflite" else "onnxruntime"
    require(python)
    result = good(sequence, key)
    with np.load(files / "sequence.npz") as file:
        arrays = {
            f"input:{spec['name']}": file[f"arr_{n}"][None]
            for n, spec in enumerate(result["inputs"])
        }
    for number, spec in enumerate(result["outputs"]):
        arrays[f"output:{spec['name']}"] = output(good(sequence, "source"), number)[None]
    np.savez(tmp_path / "reference.npz", **arrays)
    path = Path(result["artifact"])
    specs = tuple(TensorSpec(**{**s, "shape": tuple(s["shape"])}) for s in result["inputs"])
    backend = "tflite" if key == "tflite" else "onnxruntime"
    found = Bench(backend, tmp_path, python).trial(
        model_of(path, path.suffix[1:], specs),
        RuntimeRef(backend, threads=1),
        path,
        tmp_path / "reference.npz",
    )
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.max_abs < 1e-4


def test_openvino_says_that_it_cannot_read_this_loop(
    sequence: tensorflow_lab.Tasks, tmp_path: Path
) -> None:
    require("openvino")
    from agent.runner.converters.base import Calibration
    from agent.runner.errors import UnsupportedOperator

    path = Path(good(sequence, "onnx")["artifact"])
    level = logging.getLogger().level
    with pytest.raises(UnsupportedOperator, match=r"Loop: .*canonical inputs"):
        converters.find("openvino_convert").convert(path, tmp_path, Calibration([], ""))
    assert logging.getLogger().level == level, "a failing conversion silences everybody's log"


def test_a_loop_that_the_calibrator_would_crash_on_is_refused(
    sequence: tensorflow_lab.Tasks,
) -> None:
    assert sequence["quantised"]["kind"] == "unsupported_operator"
    assert "WHILE" in sequence["quantised"]["message"]
    assert "unroll" in sequence["quantised"]["message"]


# --- through the runner's own children ---


@pytest.mark.parametrize("name", ["free.keras", "free.h5", "frozen", "optimised"])
def test_a_trial_and_its_reference(
    files: Path, made: tensorflow_lab.Tasks, tmp_path: Path, name: str
) -> None:
    """SavedModels go through the whole common suite, in test_backends."""
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


# --- the ways there are ---


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
    edges = [e for n in converters.names() for e in converters.find(n).edges]
    found = cheapest(edges, [start], [goal])
    assert (None if found is None else [edge.converter for edge in found]) == way
