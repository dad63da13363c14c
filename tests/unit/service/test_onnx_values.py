"""What the reader of ONNX files finds of the meaning of whole numbers, operator by operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from agent.contract.input_values import FIXED, WHOLE
from orchestrator.inspection.child import onnx_values
from support.onnx_files import model, tiny_bert

F, L, B, I32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.INT32
TABLE = np.ones((3, 5), np.float32)
node = helper.make_node
info = helper.make_tensor_value_info


def found(
    nodes: list[Any],
    inputs: dict[str, tuple[int, list[int]]],
    weights: dict[str, Any],
    y: Any = None,
) -> dict[str, Any]:
    """Input → (low, high), or the fixed values."""
    made = model(
        nodes,
        [info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [info("y", F, y)],
        {name: np.asarray(value) for name, value in weights.items()},
    )
    values = onnx_values.of_model(made, {n: tuple(shape) for n, (_, shape) in inputs.items()})
    assert all(v.why and v.kind in (FIXED, WHOLE) for v in values.values())
    return {n: v.fixed if v.kind == FIXED else (v.low, v.high) for n, v in values.items()}


ROWS: dict[str, tuple[list[Any], dict[str, tuple[int, list[int]]], dict[str, Any], Any]] = {
    "rows": ([node("Gather", ["t", "i"], ["y"])], {"i": (L, [4])}, {"t": TABLE}, (0, 2)),
    "columns": (
        [node("Gather", ["t", "i"], ["y"], axis=-1)], {"i": (L, [4])}, {"t": TABLE}, (0, 4),
    ),
    "through a cast, a shape and an offset": (
        [
            node("Cast", ["i"], ["c"], to=L),
            node("Unsqueeze", ["c", "axis"], ["u"]),
            node("Sub", ["u", "two"], ["d"]),
            node("Gather", ["t", "d"], ["y"]),
        ],
        {"i": (I32, [4])}, {"t": TABLE, "two": np.int64(2), "axis": np.array([0])}, (2, 4),
    ),
    "twice the number": (
        [node("Mul", ["i", "two"], ["d"]), node("Gather", ["t", "d"], ["y"])],
        {"i": (L, [4])}, {"t": TABLE, "two": np.int64(2)}, (0, 1),
    ),
    "counted from the end": (
        [node("Sub", ["two", "i"], ["d"]), node("Gather", ["t", "d"], ["y"])],
        {"i": (L, [4])}, {"t": TABLE, "two": np.int64(2)}, (0, 2),
    ),
    "offsets of several tables in one": (
        [node("Add", ["i", "o"], ["d"]), node("Gather", ["t", "d"], ["y"])],
        {"i": (L, [2])}, {"t": np.ones((10, 2), np.float32), "o": np.array([0, 6])}, (0, 3),
    ),
    "whole numbers in a float input": (
        [node("Cast", ["i"], ["c"], to=L), node("Gather", ["t", "c"], ["y"])],
        {"i": (F, [4])}, {"t": TABLE}, (0, 2),
    ),
    "the smaller of two tables": (
        [
            node("Gather", ["t", "i"], ["a"]), node("Gather", ["u", "i"], ["b"]),
            node("Add", ["a", "b"], ["y"]),
        ],
        {"i": (L, [4])}, {"t": TABLE, "u": TABLE[:2]}, (0, 1),
    ),
    "a table that is computed": (
        [node("Cast", ["h"], ["t"], to=F), node("Gather", ["t", "i"], ["y"])],
        {"i": (L, [4])}, {"h": TABLE.astype(np.float16)}, (0, 2),
    ),
    "coordinates": (
        [node("GatherND", ["t", "i"], ["y"])], {"i": (L, [4, 2])}, {"t": TABLE}, (0, 2),
    ),
    "classes": (
        [node("OneHot", ["i", "d", "v"], ["y"])],
        {"i": (L, [4])}, {"d": np.int64(3), "v": np.array([0, 1], np.float32)}, (0, 2),
    ),
    "a padding number says less than a table": (
        [
            node("Equal", ["i", "pad"], ["e"]), node("Gather", ["t", "i"], ["g"]),
            node("Cast", ["e"], ["c"], to=F), node("Unsqueeze", ["c", "last"], ["m"]),
            node("Add", ["g", "m"], ["y"]),
        ],
        {"i": (L, [4])}, {"t": TABLE, "pad": np.int64(0), "last": np.array([-1])}, (0, 2),
    ),
    "a mask by what is done with it": (
        [
            node("Cast", ["i"], ["c"], to=F), node("Sub", ["one", "c"], ["s"]),
            node("Mul", ["s", "large"], ["y"]),
        ],
        {"i": (L, [4])}, {"one": np.float32(1), "large": np.float32(-1e9)}, (0, 1),
    ),
    "a divisor": (
        [node("Mod", ["seven", "i"], ["y"])], {"i": (L, [4])}, {"seven": np.int64(7)}, (1, 8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_range_is_followed_to_what_reads_it(name: str) -> None:
    nodes, inputs, weights, wanted = ROWS[name]
    assert found(nodes, inputs, weights) == {"i": wanted}


X = {"x": (F, [2, 3])}
EXACT: dict[str, tuple[list[Any], list[int], Any, tuple[float, ...]]] = {
    "Reshape": ([node("Reshape", ["x", "s"], ["y"])], [2], None, (2, 3)),
    "Reshape to the declared shape": ([node("Reshape", ["x", "s"], ["y"])], [2], [3, 2], (3, 2)),
    "Reshape to more axes": ([node("Reshape", ["x", "s"], ["y"])], [3], None, (6, 1, 1)),
    "Expand": ([node("Expand", ["x", "s"], ["y"])], [3], None, (1, 2, 3)),
    "Tile": ([node("Tile", ["x", "s"], ["y"])], [2], None, (1,)),
    "Slice": ([node("Slice", ["x", "zero", "s"], ["y"])], [2], None, (2, 3)),
    "TopK": ([node("TopK", ["x", "s"], ["y", "i"])], [1], None, (3,)),
    "Unsqueeze": ([node("Unsqueeze", ["x", "s"], ["y"])], [2], None, (0, 1)),
    "Split": ([node("Split", ["x", "s"], ["y", "z"], axis=1)], [2], None, (1, 2)),
    "ReduceSum": ([node("ReduceSum", ["x", "s"], ["y"])], [1], None, (0,)),
    "Pad": ([node("Pad", ["x", "s"], ["y"])], [4], None, (1,)),
}


@pytest.mark.parametrize("name", EXACT)
def test_what_decides_a_shape_has_one_value(name: str) -> None:
    nodes, size, declared, wanted = EXACT[name]
    zero = {"zero": np.zeros(2, np.int64)} if name == "Slice" else {}
    assert found(nodes, {**X, "s": (L, size)}, zero, declared) == {"s": wanted}


def test_lengths_end_with_their_sequence() -> None:
    weights = {"W": np.ones((1, 8, 3), np.float32), "R": np.ones((1, 8, 2), np.float32)}
    lstm = [node("LSTM", ["x", "W", "R", "", "n"], ["y"], hidden_size=2)]
    assert found(lstm, {"x": (F, [4, 2, 3]), "n": (I32, [2])}, weights) == {"n": (1, 4)}
    turned = [node("ReverseSequence", ["x", "n"], ["y"], time_axis=1, batch_axis=0)]
    assert found(turned, {"x": (F, [2, 6, 3]), "n": (L, [2])}, {}) == {"n": (1, 6)}


def test_bodies_and_functions_are_entered() -> None:
    then = helper.make_graph([node("Gather", ["t", "i"], ["a"])], "a", [], [info("a", F, [4, 5])])
    other = helper.make_graph([node("Gather", ["u", "i"], ["b"])], "b", [], [info("b", F, [4, 5])])
    branch = [node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    weights = {"t": TABLE, "u": TABLE[:2]}
    assert found(branch, {"c": (B, []), "i": (L, [4])}, weights) == {"i": (0, 1)}

    body = helper.make_graph(
        [
            node("Gather", ["t", "state"], ["row"]), node("Identity", ["go_on"], ["again"]),
            node("Identity", ["state"], ["next"]),
        ],
        "l",
        [info("round", L, []), info("go_on", B, []), info("state", L, [4])],
        [info("again", B, []), info("next", L, [4]), info("row", F, [4, 5])],
    )  # fmt: skip
    loop = [node("Loop", ["rounds", "", "i"], ["last", "y"], body=body)]
    assert found(loop, {"rounds": (L, []), "i": (L, [4])}, {"t": TABLE}) == {
        "rounds": (4,), "i": (0, 2),
    }  # fmt: skip

    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    embed = helper.make_function(
        "own", "Embed", ["tt", "ii"], ["oo"], [node("Gather", ["tt", "ii"], ["oo"])], opsets[:1]
    )
    calls = model(
        [node("Embed", ["t", "i"], ["y"], domain="own")],
        [info("i", L, [4])], [info("y", F, [4, 5])], {"t": TABLE},
    )  # fmt: skip
    calls.functions.append(embed)
    calls.opset_import.append(opsets[1])
    [values] = onnx_values.of_model(calls, {"i": (4,)}).values()
    assert (values.low, values.high) == (0, 2)


def test_bert() -> None:
    made = tiny_bert()
    shapes = {i.name: (1, 6) for i in made.graph.input}
    values = onnx_values.of_model(made, shapes)
    assert {n: (v.low, v.high) for n, v in values.items()} == {
        "input_ids": (0, 39),
        "token_type_ids": (0, 1),
        "attention_mask": (0, 1),
        "position_ids": (0, 5),
    }


def test_what_no_operator_tells_is_left_out() -> None:
    """Images and features, compared or scaled, are no whole numbers; a shape ends the way."""
    plain = [node("Relu", ["x"], ["y"])]
    assert found(plain, X, {}) == {}
    compared = [node("Greater", ["x", "zero"], ["c"]), node("Cast", ["c"], ["y"], to=F)]
    assert found(compared, X, {"zero": np.float32(0)}) == {}
    scaled = [node("Mul", ["x", "k"], ["y"])]
    assert found(scaled, X, {"k": np.float32(32768)}) == {}
    shape = [
        node("Shape", ["i"], ["s"]), node("Gather", ["s", "zero"], ["n"]),
        node("Cast", ["n"], ["y"], to=F),
    ]  # fmt: skip
    assert found(shape, {"i": (L, [4])}, {"zero": np.int64(0)}) == {}
