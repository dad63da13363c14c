"""Outputs with as many rows as the data say: they are registered, measured and compared by feed."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from support.cli import Shell
from support.onnx_files import save_network

F, L = TensorProto.FLOAT, TensorProto.INT64
node = helper.make_node
SPEC = """
name: sizes
models: [{models}]
runtimes: [{{backend: onnxruntime}}, {{backend: openvino}}]
trials: 1
scenario: {{min_duration_s: 0.02, max_duration_s: 0.1, warm_up_s: 0.02, min_samples: 11}}
"""
NETWORKS: dict[str, Any] = {
    "nonzero": (
        [
            node("Relu", ["x"], ["r"]), node("NonZero", ["r"], ["i"]),
            node("ReduceSum", ["x"], ["s"]),
        ],
        {"x": (F, [1, 8])}, {"i": (L, [2, "n"]), "r": (F, [1, 8]), "s": (F, [1, 1])}, {},
    ),
    "boxes": (
        [node("NonMaxSuppression", ["b", "s", "most", "iou", "least"], ["y"])],
        {"b": (F, [1, 6, 4]), "s": (F, [1, 1, 6])}, {"y": (L, ["n", 3])},
        {"most": np.int64(4), "iou": np.float32(0.5), "least": np.float32(0)},
    ),
}  # fmt: skip
FREE = {"nonzero": "[2, -1]", "boxes": "[-1, 3]"}


@pytest.fixture(scope="module")
def registered(farm_shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sizes")
    for name, parts in NETWORKS.items():
        farm_shell.fine("model", "add", save_network(folder / f"{name}.onnx", *parts))
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_a_free_size_is_shown_and_allows_no_batch(
    farm_shell: Shell, registered: Path, name: str
) -> None:
    shown = farm_shell.fine("model", "show", name)
    assert FREE[name] in shown
    assert "as exported" in shown


def test_they_are_measured_and_compared_feed_by_feed(farm_shell: Shell, registered: Path) -> None:
    file = registered / "sizes.yaml"
    file.write_text(SPEC.format(models=", ".join(NETWORKS)))
    farm_shell.fine("sweep", "run", file, limit_s=300.0)
    report = farm_shell.fine("report", "sizes", "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(report)))
    assert len(rows) == 2 * len(NETWORKS)
    assert {(r["model"], r["backend"]): r["status"] for r in rows} == {
        (name, backend): "ok" for name in NETWORKS for backend in ("onnxruntime", "openvino")
    }


def test_a_size_that_the_file_declares_wrongly_is_named(farm_shell: Shell, tmp_path: Path) -> None:
    file = save_network(
        tmp_path / "wrong.onnx",
        [node("Relu", ["x"], ["r"]), node("NonZero", ["r"], ["y"])],
        {"x": (F, [1, 8])}, {"y": (L, [2, 8])},
    )  # fmt: skip
    said = " ".join(farm_shell.refused("model", "add", file).split())
    assert "the file declares output y as [2,8], and it came out as [2," in said
