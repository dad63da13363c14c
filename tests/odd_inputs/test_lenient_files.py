"""ONNX files that onnx's checker refuses and ONNX Runtime takes, inputs of size 0, and the truth
about files that neither takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from orchestrator.domain.errors import UserError
from orchestrator.service.models import registration
from orchestrator.service.models.registration import NewModel
from orchestrator.service.views import ModelView
from support.cli import Shell
from support.farms import FarmKit
from support.onnx_files import row, saved, shapeless

node = helper.make_node
RELU = [node("Relu", ["x"], ["y"])]
UNSORTED = [node("Relu", ["a"], ["y"]), node("Neg", ["x"], ["a"])]
SAME_NAME = [node("Relu", ["x"], ["a"], name="n"), node("Relu", ["a"], ["y"], name="n")]
Made = Callable[[Path], Path]


def _branches(path: Path, kind: int) -> Path:
    """An ``If`` whose branches declare outputs without a shape, its nodes in the wrong order."""
    bodies = {
        f"{name}_branch": helper.make_graph(
            [node(op, ["a"], [name])], name, [], [shapeless(name, kind)]
        )
        for name, op in (("then", "Relu"), ("else", "Neg"))
    }
    nodes = [
        node("If", ["c"], ["y"], **bodies),
        node("Cast", ["m"], ["c"], to=TensorProto.BOOL),
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Neg", ["x"], ["a"]),
    ]
    return saved(path, nodes)


def _changed(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(saved(path, RELU))
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def _unnamed(model: onnx.ModelProto) -> None:
    model.graph.name = ""


def _older(model: onnx.ModelProto) -> None:
    model.ir_version = 2


def _twice(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx", 21))


def _initializer_listed(path: Path) -> Path:
    nodes = [node("Add", ["x", "w"], ["y"])]
    return saved(path, nodes, None, {"w": np.ones((1, 8), np.float32)}, [row("x"), row("w")])


def _function(path: Path) -> Path:
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    inner = helper.make_function("own", "F", ["a"], ["b"], [node("Relu", ["a"], ["b"])], opsets[:1])
    graph = helper.make_graph([node("F", ["x"], ["y"], domain="own")], "g", [row("x")], [row("y")])
    model = helper.make_model(graph, functions=[inner], opset_imports=opsets, ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("made", "shapes", "gives"),
    [
        (lambda p: saved(p, UNSORTED), {}, [1, 8]),
        (lambda p: saved(p, RELU, [shapeless("y")]), {}, [1, 8]),
        (lambda p: saved(p, RELU, [shapeless("y", 0)]), {}, [1, 8]),
        (lambda p: saved(p, RELU, takes=[row("x", shape=[1, 0])], gives=[row("y", shape=[1, 0])]),
         {}, [1, 0]),
        (lambda p: saved(p, RELU, [shapeless("y")], None, [shapeless("x")]), {"x": [2, 3]}, [2, 3]),
        (lambda p: saved(p, RELU, [row("y", shape=[])], None, [row("x", shape=[])]), {}, []),
        (lambda p: saved(p, RELU, [row("y"), row("x")]), {}, [1, 8]),
        (lambda p: _branches(p, TensorProto.FLOAT), {}, [1, 8]),
        (lambda p: _branches(p, 0), {}, [1, 8]),
        (lambda p: _changed(p, _unnamed), {}, [1, 8]),
        (lambda p: _changed(p, _older), {}, [1, 8]),
        (lambda p: _changed(p, _twice), {}, [1, 8]),
        (_initializer_listed, {}, [1, 8]),
        (_function, {}, [1, 8]),
        (lambda p: saved(p, [node("Gelu", ["x"], ["y"], domain="com.microsoft")]), {}, [1, 8]),
        (lambda p: saved(p, RELU, [row("y", shape=[1, 9])]), {}, [1, 8]),
        (lambda p: saved(p, RELU, [row("y", shape=[-1, 8])], None, [row("x", shape=[-1, 8])]),
         {"x": [1, 8]}, [1, 8]),
    ],
)  # fmt: skip
def test_what_the_runtime_takes_is_registered(
    sqlite_farm: FarmKit, tmp_path: Path, made: Made, shapes: dict[str, list[int]], gives: list[int]
) -> None:
    added = _add(sqlite_farm, made(tmp_path / "net.onnx"), shapes)
    assert list(added.outputs[0]["shape"]) == gives
    assert "unrepeatable" not in added.details


def _drop_version(model: onnx.ModelProto) -> None:
    model.ClearField("ir_version")


def _drop_opsets(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def _constant(path: Path) -> Path:
    weights = {"w": np.ones((1, 8), np.float32)}
    return saved(path, [node("Relu", ["w"], ["y"])], None, weights, [row("w")])


def _of(nodes: list[onnx.NodeProto]) -> Made:
    return lambda path: saved(path, nodes)


def _circle(path: Path) -> Path:
    nodes = [node("Relu", ["b"], ["a"]), node("Add", ["a", "x"], ["b"]), node("Neg", ["b"], ["y"])]
    return saved(path, nodes)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (_circle, "need each other in a circle"),
        (_of([node("Relu", ["lost"], ["y"])]), "nothing gives input 'lost' of operator Relu"),
        (lambda p: _changed(p, _drop_version), "ir_version"),
        (lambda p: _changed(p, _drop_opsets), "must specify opset_import"),
        (lambda p: saved(p, [], [row("x")]), "no operators: there is nothing to measure"),
        (_constant, "no inputs: its outputs are constants"),
        (lambda p: saved(p, RELU, None, None, [shapeless("x", 0)]), "declares no type"),
        (lambda p: saved(p, RELU, [row("y"), row("y")]), "has the output 'y' twice"),
        (_of([node("Foo", ["x"], ["y"], domain="foo.bar")]), "No opset import for"),
        (_of(SAME_NAME), "two nodes with same node name (n)"),
    ],
)
def test_what_it_does_not_take_is_refused_with_the_reason(
    sqlite_farm: FarmKit, tmp_path: Path, made: Made, says: str
) -> None:
    with pytest.raises(UserError) as caught:
        _add(sqlite_farm, made(tmp_path / "net.onnx"), {})
    assert says in str(caught.value)
    assert "truncated" not in str(caught.value)
    assert sqlite_farm.rows()["models"] == 0


def test_a_past_of_no_length_is_given_by_its_shape(farm_shell: Shell, tmp_path: Path) -> None:
    takes = [row("past", shape=[1, "length"]), row("x")]
    path = saved(tmp_path / "no-past.onnx", [node("Concat", ["past", "x"], ["y"], axis=1)],
                 [row("y", shape=[1, None])], None, takes)  # fmt: skip
    assert "free shape [1, length]" in farm_shell.refused("model", "add", path)
    assert "past float32 [1, 0]" in farm_shell.fine("model", "add", path, "--shape", "past=1,0")
    refused = farm_shell.refused("model", "add", path, "--name", "other", "--shape", "past=1,-1")
    assert "no dimension may be below 0" in refused


def _add(farm: FarmKit, path: Path, shapes: dict[str, list[int]]) -> ModelView:
    sha256 = farm.farm.blobs.put(path.read_bytes())
    return registration.add(farm.farm, NewModel("net", "net.onnx", sha256, shapes=shapes))
