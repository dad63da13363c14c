"""The shipped digits network and data set: what the script makes, as accurate as recorded."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.zoo import catalogue, digits, emit_onnx, train_digits
from orchestrator.zoo.entry import DATA

FLOOR = 0.985


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DATA / "digits_cnn.json").read_text("utf-8"))
    return content


@pytest.fixture(scope="module")
def made() -> digits.Digits:
    return digits.load()


def test_accuracy_on_the_held_out_part_is_the_recorded_one(recorded: dict[str, Any]) -> None:
    session = onnxruntime.InferenceSession(
        DATA / "digits_cnn.onnx", providers=["CPUExecutionProvider"]
    )
    with np.load(catalogue.dataset_path("digits")) as data:
        inputs, labels = data["inputs"], data["labels"]
    answers = [int(session.run(None, {"input": one[np.newaxis]})[0].argmax()) for one in inputs]
    correct = int((np.array(answers) == labels).sum())
    assert correct / len(labels) >= FLOOR
    assert correct == recorded["held_out_correct"]
    assert len(labels) == recorded["held_out_samples"]
    assert correct / len(labels) == recorded["held_out_top1"]


def test_the_shipped_data_set_is_the_scripts_split(made: digits.Digits) -> None:
    with np.load(catalogue.dataset_path("digits")) as data:
        assert sorted(data) == ["calibration", "inputs", "labels"]
        np.testing.assert_array_equal(data["inputs"], made.inputs)
        np.testing.assert_array_equal(data["labels"], made.labels)
        np.testing.assert_array_equal(data["calibration"], made.calibration)
        assert (data["inputs"].dtype, data["labels"].dtype) == (np.float32, np.int64)
        assert data["inputs"].min() == 0.0
        assert data["inputs"].max() == 1.0
        assert data["calibration"].shape == (100, 1, 28, 28)


def test_no_held_out_image_was_trained_or_calibrated_on(made: digits.Digits) -> None:
    trained = {image.tobytes() for image in made.train_inputs}
    assert not trained & {image.tobytes() for image in made.inputs}
    assert len(made.train_labels) + len(made.labels) == 1797


def test_the_record_names_the_shipped_files(recorded: dict[str, Any]) -> None:
    for name, expected in recorded["sha256"].items():
        content = (DATA / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == expected
        assert len(content) < 1_000_000


def test_emitting_the_trained_network_gives_the_shipped_file() -> None:
    shipped = (DATA / "digits_cnn.onnx").read_bytes()
    assert emit_onnx.to_bytes(catalogue.load("digits_cnn", seed=9)) == shipped


@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=60), seed=st.integers(0, 1000))
def test_a_split_is_stratified_and_complete(labels: list[int], seed: int) -> None:
    array = np.array(labels, dtype=np.int64)
    train, held_out = digits.split(array, 0.25, seed)
    assert sorted([*train, *held_out]) == list(range(len(labels)))
    for label in set(labels):
        assert (array[held_out] == label).sum() == round(labels.count(label) * 0.25)


@given(side=st.integers(2, 30), level=st.integers(0, 16))
def test_resizing_keeps_a_constant(side: int, level: int) -> None:
    flat = np.full((1, 8, 8), level, dtype=np.int64)
    assert (digits.resize(flat, side, 16) == (510 * level + 16) // 32).all()


def test_resizing_is_bilinear() -> None:
    source = np.random.RandomState(0).randint(0, 17, size=(3, 8, 8)).astype(np.int64)
    centres = np.clip((np.arange(28) + 0.5) * 8 / 28 - 0.5, 0, 7)
    expected = np.array(
        [
            [np.interp(centres, np.arange(8), column) for column in np.transpose(rows)]
            for rows in [
                [np.interp(centres, np.arange(8), line) for line in image] for image in source
            ]
        ]
    ).transpose(0, 2, 1)
    found = digits.resize(source, 28, 16)
    assert np.abs(found - expected * 255 / 16).max() < 0.5 + 1e-9


def test_shifting_moves_by_at_most_two_pixels_and_brings_in_black() -> None:
    image = np.zeros((200, 1, 28, 28), dtype=np.float32)
    image[:, 0, 14, 14] = 1.0
    moved = train_digits.shifted(image, np.random.RandomState(0))
    _, _, rows, columns = np.nonzero(moved)
    assert moved.shape == image.shape
    assert len(rows) == 200
    assert set(rows.tolist()) == set(columns.tolist()) == set(range(12, 17))
