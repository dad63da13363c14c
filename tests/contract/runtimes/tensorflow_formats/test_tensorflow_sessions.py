"""Sessions of TensorFlow's five formats, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agent.runtimes import registry
from support import tensorflow_lab
from support.runner_child import expected, require
from support.tensorflow_made import BROKEN, RUNS, X, good, output


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
    converter = registry.find_converter("openvino_convert")
    from agent.contract.failures import UnsupportedOperator
    from agent.runtimes.converter import Calibration

    with pytest.raises(UnsupportedOperator, match="Cholesky"):
        converter.convert(files / "cholesky", tmp_path, Calibration([], ""))


def test_tensorrt_in_tensorflow_needs_an_older_one(made: tensorflow_lab.Tasks) -> None:
    assert made["tftrt"]["kind"] == "runtime_missing"
    assert "install TensorFlow 2.17 or older and its TensorRT" in made["tftrt"]["message"]
