"""One network in every format that this machine can make of it, and conversions by hand.

The chain is that of Bavache et al., *Deep Neural Network Optimization* (2023): Keras, H5,
SavedModel, frozen and optimised graph, TFLite, ONNX by two routes, TVM untuned and tuned.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.cli import Shell, running
from support.environments import python_of
from support.runner_child import require

AGENT = Path(sys.executable).parent / "benchfarm-agent"
BACKENDS = ("tensorflow", "tflite", "tvm")
LIMIT_S = 900.0


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A controller whose own device has environments of TensorFlow, LiteRT and TVM."""
    for backend in BACKENDS:
        require(backend)
    home = tmp_path_factory.mktemp("chain") / "home"
    for backend in BACKENDS:
        words = ["runtimes", "add", backend, "--python", python_of(backend)]
        command = [str(AGENT), *words, "--state-dir", str(home / "agent")]
        subprocess.run(command, check=True, capture_output=True, timeout=240)
    with running(home) as found:
        _wait_for(found, "tensorflow")
        made = found.fine("zoo", "build", "digits_cnn", "--format", "keras", "--format", "h5")
        assert "onnx, keras, h5" in made
        yield found


def _wait_for(shell: Shell, backend: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        [device] = json.loads(shell.fine("device", "list", "-o", "json"))
        if any(r["backend"] == backend and not r["missing"] for r in device["runtimes"]):
            return
        time.sleep(0.5)
    pytest.fail(f"the device did not say that it has {backend}")


@pytest.fixture(scope="module")
def keras_file(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    shell.fine("zoo", "build", "digits_cnn", "--format", "keras", "--output", folder)
    return folder / "digits_cnn.keras"


@pytest.mark.timeout(1200)
def test_every_format_of_the_chain_runs_and_loses_nothing(shell: Shell) -> None:
    words = ["model", "formats", "digits_cnn", "--trials", "1", "--tuning-trials", "4"]
    words += [w for b in ("tensorflow", "tflite", "tvm", "onnxruntime") for w in ("--backend", b)]
    rows: list[dict[str, Any]] = json.loads(shell.fine(*words, "-o", "json", limit_s=LIMIT_S))
    found = {(r["backend"], r["format"], r["via"], bool(r["options"])): r for r in rows}
    assert set(found) >= {
        ("tensorflow", "keras", "", False),
        ("tensorflow", "h5", "", False),
        ("tensorflow", "savedmodel", "", False),
        ("tensorflow", "frozen_pb", "", False),
        ("tensorflow", "optimised_pb", "", False),
        ("tflite", "tflite", "", False),
        ("onnxruntime", "onnx", "", False),
        ("onnxruntime", "onnx", "tf2onnx", False),
        ("onnxruntime", "onnx", "keras_onnx", False),
        ("tvm", "tvm_library", "", False),
        ("tvm", "tvm_library", "", True),
    }
    assert {r["status"] for r in rows} == {"ok"}
    assert all(r["top1"] == r["reference_top1"] > 0.99 for r in rows)
    assert all(r["artifact_size_mib"] > 0.3 for r in rows)
    optimised = found["tensorflow", "optimised_pb", "", False]["conversion"]
    for step in ("keras_savedmodel", "tensorflow_freeze", "tensorflow_optimise"):
        assert step in optimised
    assert "checked by tensorflow, cosine 1.000" in optimised
    assert "MetaSchedule" in found["tvm", "tvm_library", "", True]["conversion"]


def test_the_table_names_the_best(shell: Shell) -> None:
    words = ("model", "formats", "digits_cnn", "--backend", "onnxruntime", "--trials", "2")
    said = shell.fine(*words, limit_s=LIMIT_S)
    assert "best at equal accuracy: onnx under onnxruntime" in said
    for column in ("format", "size, KiB", "median, ms", "top-1"):
        assert column in said


def test_a_file_becomes_another_and_every_step_is_checked(
    shell: Shell, keras_file: Path, tmp_path: Path
) -> None:
    target = tmp_path / "small model.tflite"
    words = ("model", "convert", keras_file, "--to", "tflite", "--precision", "int8")
    said = shell.fine(*words, "--calibration", "random", "--output", target)
    assert target.read_bytes()[4:8] == b"TFL3"
    assert "keras_savedmodel" in said
    assert "calibrated on 32 random inputs" in said
    assert "checked by tflite, cosine 0.9" in said
    assert "small model.tflite" in said
    assert "is there already" in shell.refused(
        *words, "--calibration", "random", "--output", target
    )


def test_the_way_is_explained_before_it_is_gone(shell: Shell, keras_file: Path) -> None:
    words = ("model", "convert", keras_file, "--to", "onnx", "--explain")
    short, *rest = shell.fine(*words, "--via", "keras_onnx").splitlines()
    assert short.startswith("keras (fp32) -> onnx (fp32) by keras_onnx in tensorflow-")
    assert "keeps layout" in rest[0]
    assert "tf2onnx" in shell.fine(*words)
    assert not (shell.home / "digits_cnn.onnx").exists()


def test_a_model_from_keras_is_counted_by_the_onnx_file_that_joined_it(
    shell: Shell, keras_file: Path
) -> None:
    """Their axes differ: the count is that of the file, not of the model."""
    for file in (keras_file, keras_file.with_suffix(".onnx")):
        shell.fine("model", "add", file, "--name", "from_keras")
    works = [
        json.loads(shell.fine("model", "show", name, "-o", "json"))[0]["details"]["work"]
        for name in ("from_keras", "digits_cnn")
    ]
    assert works[0] == works[1]
    assert works[0]["macs"] == 4_873_040
    assert not works[0]["unknown"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to", "tflite", "--precision", "int8"), "tflite_quantize needs calibration data"),
        (("--to", "edgetpu_tflite", "--precision", "int8"), "edgetpu_compile needs edgetpu_comp"),
        (("--to", "punch_cards"), "no converter leads; from here to: "),
        (("--to", "keras"), "is keras in fp32 already"),
        (("--to", "onnx", "--via", "onnx_fp16"), "through onnx_fp16 no converter leads"),
        (("--to", "onnx", "--option", "speed=3"), "--option speed: the converters on this way"),
    ],
)
def test_what_cannot_be_converted_is_said_and_leaves_nothing(
    shell: Shell, keras_file: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    target = tmp_path / "made"
    said = shell.refused("model", "convert", keras_file, *words, "--output", target)
    assert message in said
    assert not target.exists()
