"""Networks whose outputs are no function of their inputs: random numbers, dropout in use, state."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from agent.contract.child_jobs import Referenced, ReferenceJob
from agent.contract.trial import ModelRef
from agent.runner import repeatability
from orchestrator.domain.file_inspection import OnnxFacts
from orchestrator.inspection.child import onnx_file
from orchestrator.local.reference_runs import run_twice
from support.cli import Shell
from support.onnx_files import SQUARE, row, saved

node = helper.make_node
SPEC = """
name: {name}
models: [{{name: {name}}}]
runtimes: [{{backend: onnxruntime}}, {{backend: openvino}}]
trials: 1
scenario: {{min_duration_s: 0.02, max_duration_s: 0.1, warm_up_s: 0.02, min_samples: 12}}
"""
ADDED = node("Add", ["x", "n"], ["y"])
NOISE = [node("RandomNormalLike", ["x"], ["n"]), ADDED]
PLAIN = node("MatMul", ["x", "w"], ["plain"])


def _report(farm_shell: Shell, path: Path) -> tuple[str, list[dict[str, object]]]:
    """What ``model add`` said of a file, and the rows of a sweep of it."""
    said = farm_shell.fine("model", "add", path)
    spec = path.with_suffix(".yaml")
    spec.write_text(SPEC.format(name=path.stem))
    farm_shell("sweep", "run", spec)
    report = json.loads(farm_shell.fine("report", path.stem, "-o", "json"))
    assert report["rows"], report
    return said, report["rows"]


def test_what_cannot_be_compared_is_timed_and_never_ranked(
    farm_shell: Shell, tmp_path: Path
) -> None:
    said, rows = _report(farm_shell, saved(tmp_path / "unlike-noise.onnx", NOISE))
    assert "output y is no function of the inputs: it differs by up to" in said
    assert "it depends on RandomNormalLike; it is not comparable: no cell is ranked by it" in said
    for found in rows:
        assert found["status"] == "ok", found
        assert found["p50_ms"]["value"] > 0  # type: ignore[index]
        assert (found["fidelity"], found["rank"]) == (None, None)
        assert found["not_comparable"] == ["y"]
        assert "fidelity is not comparable" in str(found["rank_reason"])
        assert "fidelity not comparable: output y" in str(found["status_note"])
    table = farm_shell.fine("report", "unlike-noise")
    assert "Not comparable" in table
    assert "fastest is" not in table


def test_other_outputs_of_such_a_network_are_compared(farm_shell: Shell, tmp_path: Path) -> None:
    gives = [row("y"), row("plain")]
    path = saved(tmp_path / "unlike-part.onnx", [*NOISE, PLAIN], gives, {"w": SQUARE})
    said, rows = _report(farm_shell, path)
    assert "output y is no function" in said
    assert "output plain is no function" not in said
    for found in rows:
        assert found["fidelity"]["passed"], found  # type: ignore[index]
        assert found["fidelity"]["worst_output"] == "plain"  # type: ignore[index]
        assert found["not_comparable"] == ["y"]
        assert "comparable" not in str(found["rank_reason"])  # a single trial takes no rank


@pytest.mark.parametrize(
    ("nodes", "operator"),
    [
        ([node("RandomUniform", [], ["n"], shape=[1, 8]), node("Add", ["x", "n"], ["y"])], "Rand"),
        (
            [node("RandomNormal", [], ["n"], shape=[8], seed=1.0), node("Mul", ["x", "n"], ["y"])],
            "",
        ),
        ([node("Sigmoid", ["x"], ["p"]), node("Bernoulli", ["p"], ["y"])], "Bernoulli"),
        ([node("Dropout", ["x", "ratio", "use"], ["y"])], "Dropout"),
        (
            [
                node("Multinomial", ["x"], ["i"], sample_size=8),
                node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
            ],
            "Multinomial",
        ),
    ],
)
def test_chance_is_found_by_running_and_named_from_the_graph(
    tmp_path: Path, nodes: list[object], operator: str
) -> None:
    weights = {"ratio": np.float32(0.5), "use": np.array(True)} if operator == "Dropout" else {}
    path = saved(tmp_path / "net.onnx", nodes, weights=weights)
    facts, found = _referenced(path, tmp_path)
    assert operator in facts.random["y"]
    assert list(found.unrepeatable) == ["y"]
    assert repeatability.marks(Path(found.path)).unrepeatable == {"y"}


def test_dropout_that_drops_nothing_is_compared(tmp_path: Path) -> None:
    weights = {"ratio": np.float32(0), "use": np.array(True)}
    nodes = [node("Dropout", ["x", "ratio", "use"], ["y"])]
    path = saved(tmp_path / "net.onnx", nodes, weights=weights)
    _, found = _referenced(path, tmp_path)
    assert (found.unrepeatable, found.stateful) == ({}, {})


def _referenced(path: Path, folder: Path) -> tuple[OnnxFacts, Referenced]:
    facts = onnx_file.onnx_model(path, path.name, {})
    model = ModelRef("net", "onnx", "0" * 64, 1, facts.inputs, ())
    found = run_twice(sys.executable, ReferenceJob(model, str(path), str(folder)))
    assert found.failure is None
    return facts, found
