"""Whole numbers that mean something: the row of a table, a shape, a length, a mask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from support.cli import Shell
from support.onnx_files import save_network, tiny_bert

F, L = TensorProto.FLOAT, TensorProto.INT64
NAMES = ("input_ids", "token_type_ids", "attention_mask", "position_ids")
SAMPLES = 24
SPEC = """
name: berts
models: [{name: bert, calibration: random}, texts]
runtimes: [{backend: onnxruntime, precision: [fp32, int8]}, {backend: openvino}]
trials: 1
scenario: {min_duration_s: 0.02, max_duration_s: 0.1, warm_up_s: 0.02, min_samples: 11}
"""
node = helper.make_node


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bert")


@pytest.fixture(scope="module")
def bert(farm_shell: Shell, folder: Path) -> Path:
    """BERT as exporters write it, registered with nothing said about it; and with a data set."""
    path = folder / "bert.onnx"
    path.write_bytes(tiny_bert().SerializeToString())
    farm_shell.fine("model", "add", path)
    farm_shell.fine("model", "add", path, "--name", "texts", "--dataset", dataset(folder))
    return path


def test_bert_registers_and_says_what_its_inputs_are_drawn_from(
    farm_shell: Shell, bert: Path
) -> None:
    shown = farm_shell.fine("model", "show", "bert")
    for words in (
        "whole numbers 0…39 (rows of 'words', which Gather reads)",
        "whole numbers 0…1 (rows of 'types', which Gather reads)",
        "whole numbers 0…1 (a mask: Mul by -10000)",
        "whole numbers 0…5 (rows of 'positions', which Gather reads)",
    ):
        assert words in shown
    assert "the first samples of the data set" in farm_shell.fine("model", "show", "texts")


def test_bert_is_measured_and_calibrated_on_values_that_it_takes(
    farm_shell: Shell, bert: Path, folder: Path
) -> None:
    file = folder / "berts.yaml"
    file.write_text(SPEC)
    farm_shell.fine("sweep", "run", file, limit_s=300.0)
    rows = json.loads(farm_shell.fine("report", "berts", "-o", "json"))["rows"]
    assert {(r["model"], r["backend"], r["precision"]): r["status"] for r in rows} == {
        (model, *cell): "ok"
        for model in ("bert", "texts")
        for cell in (("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("openvino", "fp32"))
    }
    assert all((r["top1"] is not None) == (r["model"] == "texts") for r in rows)
    made = {r["model"]: r["conversion"] for r in rows if r["precision"] == "int8"}
    assert "32 random inputs" in made["bert"]
    assert "8 samples of the data set" in made["texts"]


def dataset(folder: Path) -> Path:
    """Named samples of all inputs."""
    random = np.random.RandomState(0)
    highest = dict(zip(NAMES, (40, 2, 2, 6), strict=True))
    arrays: dict[str, Any] = {
        f"{kind}:{name}": random.randint(0, highest[name], (count, 6)).astype(np.int64)
        for kind, count in (("inputs", SAMPLES), ("calibration", 8))
        for name in NAMES
    }
    arrays["labels"] = np.arange(SAMPLES) % 2
    path = folder / "texts.npz"
    np.savez(path, **arrays)
    return path


def squared(folder: Path) -> Path:
    """Row i · i of five: no reader of graphs follows that, and drawn numbers do not fit."""
    return save_network(  # type: ignore[no-any-return]
        folder / "squared.onnx",
        [node("Mul", ["i", "i"], ["j"]), node("Gather", ["t", "j"], ["y"])],
        {"i": (L, [1, 4])}, {"y": (F, [1, 4, 3])}, {"t": np.ones((5, 3), np.float32)},
    )  # fmt: skip


def test_what_fails_on_drawn_values_names_the_input_and_the_option(
    farm_shell: Shell, tmp_path: Path
) -> None:
    file = squared(tmp_path)
    said = " ".join(farm_shell.refused("model", "add", file).split())
    assert "drawn for input i, whole numbers 0…7 (nothing says what they mean)" in said
    assert "say what they mean with --input i:range=0,2" in said
    assert "--inputs FEEDS.npz" in said
    farm_shell.fine("model", "add", file, "--input", "i:range=0,2")
    assert "whole numbers 0…2 (as declared)" in farm_shell.fine("model", "show", "squared")
    farm_shell.fine("model", "add", file, "--input", "i:range=0,2")  # typed twice: nothing new
    assert (
        "leave --input and --inputs out"
        in farm_shell("model", "add", file, "--input", "i:range=0,1").stderr
    )


def test_all_inputs_are_given_by_name(farm_shell: Shell, bert: Path, tmp_path: Path) -> None:
    feeds = tmp_path / "feeds.npz"
    ids = np.arange(18).reshape(3, 1, 6)
    np.savez(feeds, input_ids=ids, attention_mask=np.ones((1, 6), np.int32))
    farm_shell.fine("model", "add", bert, "--name", "given", "--inputs", feeds)
    shown = " ".join(farm_shell.fine("model", "show", "given").split())
    assert "given, 3 feeds" in shown
    assert "whole numbers 0…1 (rows of 'types'" in shown  # left out of the file: drawn
    np.savez(feeds, input_ids=np.full((1, 6), 40))
    said = farm_shell.refused("model", "add", bert, "--name", "none", "--inputs", feeds)
    assert "feeds.npz: the network does not run on" in " ".join(said.split())


def test_a_shape_is_an_input(farm_shell: Shell, tmp_path: Path) -> None:
    file = save_network(
        tmp_path / "shaped.onnx",
        [node("Reshape", ["x", "shape"], ["y"])],
        {"x": (F, [2, 3]), "shape": (L, [2])}, {"y": (F, ["a", "b"])},
    )  # fmt: skip
    farm_shell.fine("model", "add", file)
    assert "always 2, 3 (the shape of Reshape)" in farm_shell.fine("model", "show", "shaped")
