"""Classifiers whose first output is no row of scores, and networks that are no classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, save

from orchestrator.client import Client
from orchestrator.client_file import read_client_file
from support.cli import Shell

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
X = np.array([[1.0], [-1.0], [2.0], [-2.0]] * 10, np.float32)
LABELS = (X[:, 0] > 0).astype(np.int64)
NODE = helper.make_node


def network(
    nodes: list[Any], outputs: list[tuple[str, int, list[int]]], **constants: Any
) -> ModelProto:
    """A network with the input ``x`` [1, 1]."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [1, 1])],
        [helper.make_tensor_value_info(*output) for output in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SIGMOID = network([NODE("Sigmoid", ["x"], ["p"])], [("p", FLOAT, [1, 1])])
LOGIT = network(
    [NODE("Mul", ["x", "k"], ["z"])], [("z", FLOAT, [1, 1])], k=np.array([[3.0]], np.float32)
)
SCORES = NODE("Concat", ["zero", "x"], ["scores"], axis=1)
LABEL = NODE("ArgMax", ["scores"], ["label"], axis=1, keepdims=0)
ZERO = np.zeros((1, 1), np.float32)
LABEL_FIRST = network(
    [SCORES, LABEL], [("label", INT64, [1]), ("scores", FLOAT, [1, 2])], zero=ZERO
)
LABEL_ONLY = network([SCORES, LABEL], [("label", INT64, [1])], zero=ZERO)
DECISION = network([NODE("Greater", ["x", "zero"], ["yes"])], [("yes", BOOL, [1, 1])], zero=ZERO)
MAPS = network(
    [SCORES, NODE("Reshape", ["scores", "shape"], ["y"])],
    [("y", FLOAT, [1, 2, 1, 1])],
    zero=ZERO,
    shape=np.array([1, 2, 1, 1]),
)
TWO_LABELS = network(
    [NODE("Abs", ["x"], ["a"]), NODE("Concat", ["x", "a"], ["y"], axis=1)], [("y", FLOAT, [1, 2])]
)
BOXES = network(
    [NODE("Tile", ["x", "by"], ["t"]), NODE("Reshape", ["t", "shape"], ["boxes"])],
    [("boxes", FLOAT, [1, 3, 4])],
    by=np.array([1, 12]),
    shape=np.array([1, 3, 4]),
)
OTHER_WAY = network(
    [SCORES, NODE("Neg", ["scores"], ["aux"])],
    [("aux", FLOAT, [1, 2]), ("scores", FLOAT, [1, 2])],
    zero=ZERO,
)


def add(
    shell: Shell, folder: Path, name: str, model: ModelProto, labels: Any, *words: str
) -> list[str | Path]:
    """The words of ``model add`` for a network and a data set that are written here."""
    save(model, str(folder / f"{name}.onnx"))
    np.savez(folder / f"{name}.npz", inputs=X, labels=labels, calibration=X[:8])
    return ["model", "add", folder / f"{name}.onnx", "--dataset", folder / f"{name}.npz", *words]


def test_a_perfect_classifier_scores_1_and_says_by_what(farm_shell: Shell, tmp_path: Path) -> None:
    said = farm_shell.fine(*add(farm_shell, tmp_path, "sigmoid", SIGMOID, LABELS))
    assert "task: binary: output p above 0.5 is class 1 (recognised by" in said
    assert "top-1 on sigmoid.npz: 1.0000" in said
    shown = " ".join(farm_shell.fine("model", "show", "sigmoid").split())
    assert "task binary: output p above 0.5" in shown
    assert "top-1 1.0000" in shown
    assert "data set values inputs float32 -2…2, labels int64 0…1" in shown


MEMBERS = {
    "logit": (LOGIT, LABELS.astype(bool), "binary: output z above 0 is class 1 ("),
    "label-first": (LABEL_FIRST, LABELS, "multiclass: arg-max of output scores ("),
    "label-only": (LABEL_ONLY, LABELS, "labels: class numbers of output label equal"),
    "decision": (DECISION, LABELS[:, None], "labels: class numbers of output yes equal"),
    "one-hot": (MAPS, np.eye(2)[LABELS], "multiclass: arg-max of output y ("),
    "two-labels": (TWO_LABELS, np.stack([LABELS, LABELS | 1 - LABELS], 1), "multilabel: output"),
}


def test_other_perfect_classifiers(farm_shell: Shell, tmp_path: Path) -> None:
    """Through the Python client, which spares a process for each."""
    known = read_client_file(farm_shell.home / "client.json")
    with Client(known["url"], known["token"]) as farm:
        for name, (model, labels, task) in MEMBERS.items():
            add(farm_shell, tmp_path, name, model, labels)
            data = tmp_path / f"{name}.npz"
            added = farm.add_model(tmp_path / f"{name}.onnx", f"right-{name}", dataset=data)
            assert added.details["task"].startswith(task), name
            assert added.reference_top1 == 1.0, name
            assert "remarks" not in added.details, name
        data = tmp_path / "positives.npz"
        np.savez(data, inputs=np.abs(X), labels=np.ones(len(X), int), calibration=X[:8])
        save(SIGMOID, str(tmp_path / "positives.onnx"))
        added = farm.add_model(tmp_path / "positives.onnx", dataset=data)
        assert added.reference_top1 == 1.0
        assert added.details["remarks"] == ["all 40 labels are 1: the accuracy says little"]


def test_what_cannot_be_scored_is_refused_with_the_way_to_say_it(
    farm_shell: Shell, tmp_path: Path
) -> None:
    words = add(farm_shell, tmp_path, "detector", BOXES, LABELS)
    assert "boxes [1, 3, 4] cannot be scored against labels [40] of 0…1" in (
        message := farm_shell.refused(*words)
    )
    assert "--task none" in message
    said = farm_shell.fine(*words, "--task", "none")
    assert "task: not scored (declared)" in said
    assert "top-1" not in said


def test_two_outputs_that_disagree_are_not_guessed_between(
    farm_shell: Shell, tmp_path: Path
) -> None:
    words = add(farm_shell, tmp_path, "two-heads", OTHER_WAY, LABELS)
    message = farm_shell.refused(*words)
    assert "aux (multiclass, accuracy 0.0000), scores (multiclass, accuracy 1.0000)" in message
    said = farm_shell.fine(*words, "--score-output", "scores")
    assert "top-1 on two-heads.npz: 1.0000" in said
    assert "is there with the task multiclass: arg-max of output scores" in farm_shell.refused(
        *words, "--score-output", "aux"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--task", "regression"], "accepted: multiclass, binary, multilabel, labels, none"),
        (["--score-output", "q"], "--score-output q: the outputs are p"),
        (["--threshold", "nan"], "threshold nan: expected a finite number"),
    ],
)
def test_a_task_that_is_not_the_models_is_refused(
    farm_shell: Shell, tmp_path: Path, words: list[str], says: str
) -> None:
    assert says in farm_shell.refused(*add(farm_shell, tmp_path, "wrong", SIGMOID, LABELS, *words))


def test_a_task_without_a_data_set_is_refused(farm_shell: Shell, tmp_path: Path) -> None:
    save(SIGMOID, str(tmp_path / "bare.onnx"))
    message = farm_shell.refused("model", "add", tmp_path / "bare.onnx", "--task", "binary")
    assert "there is no data set" in message
