"""The health check's model: both files compute the expected outputs."""

from __future__ import annotations

import io
from importlib.resources import files
from typing import Any

import numpy as np
import onnxruntime

from agent.formats import tflite, tflite_analysis
from inventory.health import make
from orchestrator.store.health_model import FEEDS, canary

FOLDER = files("inventory") / "health"


def by_hand(image: np.ndarray) -> Any:
    """An independent implementation of the network, pixel by pixel."""
    given = image[0].astype(np.float64)
    for kernel, bias in ((make.FIRST, make.FIRST_BIAS), (make.SECOND, make.SECOND_BIAS)):
        side = given.shape[1] - 2
        gives = np.zeros((kernel.shape[0], side, side))
        for row in range(side):
            for column in range(side):
                patch = given[:, row : row + 3, column : column + 3]
                summed = (kernel.astype(np.float64) * patch).sum(axis=(1, 2, 3))
                gives[:, row, column] = np.maximum(summed + bias, 0.0)
        given = gives
    return given.mean(axis=(1, 2)) @ make.DENSE.astype(np.float64) + make.DENSE_BIAS


def known() -> tuple[np.ndarray, np.ndarray]:
    with np.load(io.BytesIO(canary().outputs)) as held:
        return held["input:x"], held["output:y"]


def test_what_ships_is_what_the_script_writes() -> None:
    assert (FOLDER / "canary.onnx").read_bytes() == make.onnx_bytes()
    assert (FOLDER / "canary.npz").read_bytes() == make.reference_bytes()


def test_the_outputs_are_those_of_the_network() -> None:
    images, expected = known()
    assert images.shape == (FEEDS, 1, 3, 16, 16)
    assert expected.shape == (FEEDS, 1, 10)
    assert np.ptp(expected, axis=0).max() > 0.1, "every feed gives the same: nothing is checked"
    for image, outputs in zip(images, expected, strict=True):
        np.testing.assert_allclose(by_hand(image), outputs[0], rtol=1e-5, atol=1e-6)


def test_onnxruntime_computes_them() -> None:
    session = onnxruntime.InferenceSession(
        canary().files["onnx"], providers=["CPUExecutionProvider"]
    )
    images, expected = known()
    for image, outputs in zip(images, expected, strict=True):
        np.testing.assert_allclose(session.run(["y"], {"x": image})[0], outputs, atol=1e-5)


def test_the_tflite_file_holds_the_same_weights() -> None:
    data = canary().files["tflite"]
    graph = tflite.read(FOLDER / "canary.tflite")  # type: ignore[arg-type]
    assert [o.name for o in graph.operators] == ["CONV_2D", "CONV_2D", "MEAN", "FULLY_CONNECTED"]
    assert (graph.input_names, graph.output_names) == (("x",), ("y",))
    assert tflite_analysis.kind(graph) == "fp32"
    own = canary().model("tflite").own_inputs[0]
    assert graph.tensors[graph.inputs[0]].shape == own.shape == (1, 16, 16, 3)
    for kernel in (make.FIRST, make.SECOND):
        assert np.ascontiguousarray(kernel.transpose(0, 2, 3, 1)).tobytes() in data
    assert np.ascontiguousarray(make.DENSE.T).tobytes() in data
    for bias in (make.FIRST_BIAS, make.SECOND_BIAS, make.DENSE_BIAS):
        assert bias.tobytes() in data


def test_it_is_no_burden() -> None:
    assert all(len(data) < 20_000 for data in canary().blobs)
