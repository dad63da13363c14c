"""Data sets with values that cannot be meant: the first of them is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from orchestrator.client import Client
from orchestrator.client_file import read_client_file
from orchestrator.domain.errors import UserError
from support.cli import Shell

FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8
PIXELS = np.linspace(0, 255, 40, dtype=np.uint8)[:, None]
LABELS = (PIXELS[:, 0] > 100).astype(np.int64)
FINE: dict[str, Any] = {"inputs": PIXELS, "labels": LABELS, "calibration": PIXELS[:8]}
UNIT = (PIXELS / 255).astype(np.float32)


def classifier(input_type: int) -> Any:
    """Two scores for one value ``x`` [1, 1] of a type: class 1 above 100."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=FLOAT),
        helper.make_node("Sub", ["f", "limit"], ["d"]),
        helper.make_node("Concat", ["zero", "d"], ["y"], axis=1),
    ]
    constants = {"limit": np.array([[100]], np.float32), "zero": np.zeros((1, 1), np.float32)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", input_type, [1, 1])],
        [helper.make_tensor_value_info("y", FLOAT, [1, 2])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def farm(farm_shell: Shell) -> Iterator[Client]:
    known = read_client_file(farm_shell.home / "client.json")
    with Client(known["url"], known["token"]) as client:
        yield client


def write(folder: Path, input_type: int, **arrays: Any) -> tuple[Path, Path]:
    save(classifier(input_type), str(folder / "net.onnx"))
    np.savez(folder / "set.npz", **(FINE | arrays))
    return folder / "net.onnx", folder / "set.npz"


def changed(array: Any, at: Any, value: Any, dtype: Any = np.float64) -> Any:
    found = np.array(array, dtype)
    found[at] = value
    return found


BAD: dict[str, tuple[int, dict[str, Any], str]] = {
    "labels from 1": (FLOAT, {"labels": LABELS + 1}, "labels[16] is 2; output y has 2 classes"),
    "text": (FLOAT, {"labels": np.array(["cat", "dog"])[LABELS]}, "labels[0] is 'cat' (<U3)"),
    "no label": (FLOAT, {"labels": changed(LABELS, 5, -1)}, "labels[5] is -1.0;"),
    "NaN label": (FLOAT, {"labels": changed(LABELS, 7, np.nan)}, "labels[7] is nan; accepted"),
    "half a class": (FLOAT, {"labels": changed(LABELS, 3, 0.5)}, "labels[3] is 0.5; accepted"),
    "a class too many": (FLOAT, {"labels": changed(LABELS, 9, 7, int)}, "labels[9] is 7; output y"),
    "NaN": (FLOAT, {"inputs": changed(PIXELS, (4, 0), np.nan)}, "inputs[4, 0] is nan; accepted"),
    "infinity": (
        FLOAT,
        {"calibration": changed(PIXELS[:8], (2, 0), -np.inf)},
        "calibration[2, 0] is -inf",
    ),
    "text for pixels": (FLOAT, {"inputs": PIXELS.astype(str)}, "inputs[0, 0] is '0' (<U3)"),
    "complex": (FLOAT, {"calibration": PIXELS[:8] * 1j}, "calibration[0, 0] is 0j (complex128)"),
    "0…1 for uint8": (
        UINT8,
        {"inputs": UNIT},
        "is 0.0235294122248888; input x takes uint8: values of 0…1 would become 0; scale them to"
        " 0…255",
    ),
    "0…1 to calibrate": (UINT8, {"calibration": UNIT[:8]}, "calibration[1, 0] is 0.0235"),
    "beyond uint8": (
        UINT8,
        {"inputs": changed(PIXELS, (6, 0), 300, int)},
        "inputs[6, 0] is 300; input x takes uint8: accepted are 0…255",
    ),
    "below uint8": (UINT8, {"calibration": PIXELS[:8].astype(int) - 128}, "takes uint8: accepted"),
    "beyond float32": (
        FLOAT,
        {"inputs": changed(PIXELS, (8, 0), 1e300)},
        "inputs[8, 0] is 1e+300; input x takes float32",
    ),
    "nothing": (
        FLOAT,
        {"inputs": PIXELS[:0], "labels": LABELS[:0]},
        "array 'inputs' is empty; expected samples",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_meant_is_named(farm: Client, tmp_path: Path, kind: str) -> None:
    input_type, arrays, says = BAD[kind]
    model, data = write(tmp_path, input_type, **arrays)
    with pytest.raises(UserError) as refused:
        farm.add_model(model, "refused", dataset=data)
    assert f"set.npz: {says}" in str(refused.value) or says in str(refused.value)
    assert "refused" not in {m.name for m in farm.models()}


GOOD: dict[str, tuple[int, dict[str, Any]]] = {
    "floats that are whole": (UINT8, {"inputs": PIXELS.astype(np.float32)}),
    "labels as floats": (FLOAT, {"labels": LABELS.astype(np.float64)}),
    "columns first": (FLOAT, {"inputs": np.asfortranarray(PIXELS.astype(">f8"))}),
    "booleans": (FLOAT, {"labels": LABELS.astype(bool)}),
}


@pytest.mark.parametrize("kind", GOOD)
def test_what_means_the_same_is_accepted(farm: Client, tmp_path: Path, kind: str) -> None:
    input_type, arrays = GOOD[kind]
    model, data = write(tmp_path, input_type, **arrays)
    added = farm.add_model(model, f"good-{kind.replace(' ', '-')}", dataset=data)
    assert added.reference_top1 == 1.0
    assert "remarks" not in added.details


def test_what_may_not_be_meant_is_said(farm_shell: Shell, tmp_path: Path) -> None:
    """Calibration of another scale than the inputs; labels that begin at 1 and yet are in range."""
    model, data = write(tmp_path, FLOAT, calibration=UNIT[:8], labels=1 - LABELS)
    said = farm_shell.fine("model", "add", model, "--name", "scales", "--dataset", data)
    assert "note: calibration samples lie in 0…0.176 and inputs in 0…255" in said
    assert "note: accuracy 0.0000 is at or below chance" in said
    shown = " ".join(farm_shell.fine("model", "show", "scales").split())
    assert "data set values inputs uint8 0…255, labels int64 0…1, calibration float32" in shown
    assert "note 1 accuracy 0.0000 is at or below chance" in shown


def test_an_empty_calibration_is_called_that(farm_shell: Shell, tmp_path: Path) -> None:
    model, data = write(tmp_path, FLOAT, calibration=PIXELS[:0])
    said = farm_shell.fine("model", "add", model, "--name", "uncalibrated", "--dataset", data)
    assert "note: the data set has no calibration samples" in said
    sweep = tmp_path / "s.yaml"
    sweep.write_text(
        "name: uncalibrated\nmodels: [uncalibrated]\n"
        "runtimes: [{backend: onnxruntime, precision: int8}]\n"
    )
    planned = " ".join(farm_shell.fine("sweep", "plan", sweep).split())
    assert "the data set of model uncalibrated has no calibration samples" in planned
