"""Several inputs, integers, a sequence, and names that sort otherwise than they stand."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes import registry
from support import tensorflow_lab
from support.runner_child import Bench, model_of, require
from support.tensorflow_made import TOKENS, VALUES, good, output


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
    from agent.contract.failures import UnsupportedOperator
    from agent.runtimes.converter import Calibration

    path = Path(good(sequence, "onnx")["artifact"])
    level = logging.getLogger().level
    with pytest.raises(UnsupportedOperator, match=r"Loop: .*canonical inputs"):
        registry.find_converter("openvino_convert").convert(path, tmp_path, Calibration([], ""))
    assert logging.getLogger().level == level, "a failing conversion silences everybody's log"


def test_a_loop_that_the_calibrator_would_crash_on_is_refused(
    sequence: tensorflow_lab.Tasks,
) -> None:
    assert sequence["quantised"]["kind"] == "unsupported_operator"
    assert "WHILE" in sequence["quantised"]["message"]
    assert "unroll" in sequence["quantised"]["message"]
