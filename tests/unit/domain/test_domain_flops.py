"""Counting multiply-accumulates: published figures, and operators worked out by hand."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx.shape_inference
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from orchestrator.domain import flops
from orchestrator.domain.flops import ComputeWork
from orchestrator.inspection.child import onnx_graph
from orchestrator.zoo import catalogue
from orchestrator.zoo.emit_onnx import to_model

PUBLISHED = {
    "mobilenet_v2": 0.301e9,
    "squeezenet1_1": 0.349e9,
    "resnet18": 1.814e9,
    "resnet50": 4.089e9,
}
"""Multiply-adds at 1 × 3 × 224 × 224: the column "GFLOPS" of torchvision's table of weights
(``Weights.meta["_ops"]``). The papers: MobileNetV2 300 M, ResNet-18 1.8 G, ResNet-50 3.8 G (He et
al. stride the first 1 × 1, torchvision the 3 × 3)."""


def work_of(model: ModelProto, **shapes: tuple[int, ...]) -> ComputeWork:
    return flops.count(onnx_graph.of_model(model, shapes))


def one(
    op: str,
    inputs: dict[str, tuple[int, ...]],
    weights: dict[str, tuple[int, ...]] | None = None,
    *,
    outputs: int = 1,
    order: str = "",
    dtypes: dict[str, Any] | None = None,
    opset: int = 23,
    **attributes: Any,
) -> ModelProto:
    """A model of one operator; ``order``: its operands by letter, else inputs, then weights."""
    weights, dtypes = weights or {}, dtypes or {}
    names = [f"y{n}" for n in range(outputs)]
    node = helper.make_node(op, list(order) or [*inputs, *weights], names, **attributes)
    kinds = {key: np.dtype(dtypes.get(key, "float32")) for key in (*inputs, *weights)}
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(kinds[k]), s)
            for k, s in inputs.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in names],
        [numpy_helper.from_array(np.zeros(s, kinds[k]), k) for k, s in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_zoo_against_the_published_figures(name: str) -> None:
    work = work_of(to_model(catalogue.load(name, 0)))
    assert work.unknown == {}
    assert work.macs == pytest.approx(PUBLISHED[name], rel=0.02)
    assert work.plain()["flops"] == 2 * sum(work.by_node.values())


def test_a_batch_counts_whole() -> None:
    one_, four = (work_of(to_model(catalogue.load("digits_cnn", 0), batch)) for batch in (1, 4))
    assert one_.macs is not None
    assert four.macs == 4 * one_.macs


QUANTISED = {"x": "uint8", "w": "uint8", "p": "uint8", "z": "uint8", "q": "uint8", "o": "uint8"}


@pytest.mark.parametrize(
    ("model", "macs"),
    [
        # 8 of 7 × 7, each over 3 × 3 of the 4 / 2 channels of its group
        (
            one("Conv", {"x": (2, 4, 9, 9)}, {"w": (8, 2, 3, 3), "b": (8,)}, group=2),
            2 * 8 * 49 * 9 * 2,
        ),
        (one("Conv", {"x": (1, 6, 20)}, {"w": (6, 1, 5)}, group=6, strides=[2]), 6 * 8 * 5),
        (one("Conv", {"x": (1, 2, 4, 5, 6)}, {"w": (3, 2, 2, 2, 2)}), 3 * 3 * 4 * 5 * 16),
        # every element of the input meets 3 × 3 weights of each of 3 outputs of its group
        (one("ConvTranspose", {"x": (1, 4, 5, 5)}, {"w": (4, 3, 3, 3)}, group=2), 100 * 27),
        (one("Gemm", {"x": (7, 5)}, {"w": (5, 3), "b": (3,)}), 7 * 5 * 3),
        (one("Gemm", {"x": (5, 7)}, {"w": (3, 5)}, transA=1, transB=1), 7 * 5 * 3),
        (one("MatMul", {"x": (2, 1, 4, 5), "y": (3, 5, 6)}), 2 * 3 * 4 * 5 * 6),
        (one("MatMul", {"x": (5,), "y": (5,)}), 5),
        (
            one("Einsum", {"x": (2, 3, 4), "y": (2, 4, 5)}, equation="bij, bjk -> bik"),
            2 * 3 * 4 * 5,
        ),
        # 5 steps of 2 sequences; 4 gates of 7 over 3 inputs and 7 states
        (
            one("LSTM", {"x": (5, 2, 3)}, {"w": (1, 28, 3), "r": (1, 28, 7)}, hidden_size=7),
            10 * 28 * (3 + 7),
        ),
        (
            one(
                "GRU",
                {"x": (5, 2, 3)},
                {"w": (2, 12, 3), "r": (2, 12, 4)},
                hidden_size=4,
                direction="bidirectional",
            ),
            2 * 10 * 12 * (3 + 4),
        ),
        # per head of 2, 4 queries by 6 keys of width 8, then 6 values of width 3
        (
            one("Attention", {"q": (1, 2, 4, 8), "k": (1, 2, 6, 8), "v": (1, 2, 6, 3)}),
            2 * 4 * 6 * (8 + 3),
        ),
        (
            one(
                "Attention",
                {"q": (1, 4, 16), "k": (1, 6, 16), "v": (1, 6, 6)},
                q_num_heads=2,
                kv_num_heads=2,
            ),
            2 * 4 * 6 * (8 + 3),
        ),
        (
            one(
                "QLinearConv",
                {"x": (1, 3, 6, 6)},
                {"s": (), "z": (), "w": (4, 3, 3, 3), "t": (), "p": (), "u": (), "q": ()},
                dtypes=QUANTISED,
                order="xszwtpuq",
            ),
            4 * 16 * 27,
        ),
        (
            one("MatMulInteger", {"x": (4, 5)}, {"w": (5, 6)}, dtypes=QUANTISED),
            4 * 5 * 6,
        ),
    ],
    ids=lambda value: value.graph.node[0].op_type if isinstance(value, ModelProto) else "",
)
def test_operators_worked_out_by_hand(model: ModelProto, macs: int) -> None:
    work = work_of(model)
    assert (work.macs, work.unknown) == (macs, {})
    assert work.by_operator == {model.graph.node[0].op_type: macs}


def test_attention_with_shared_values_counts_as_each_query_head_uses_them() -> None:
    """Grouped queries: 4 heads of 8 share 2 of keys and values; as 4-D they are spelled out."""
    folded = one(
        "Attention",
        {"q": (1, 4, 32), "k": (1, 6, 16), "v": (1, 6, 6)},
        q_num_heads=4,
        kv_num_heads=2,
    )
    spelled = one("Attention", {"q": (1, 4, 4, 8), "k": (1, 2, 6, 8), "v": (1, 2, 6, 3)})
    assert work_of(folded).macs == work_of(spelled).macs == 4 * 4 * 6 * (8 + 3)


def test_what_is_not_counted_is_named() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Add", ["c", "x"], ["y"]),
    ]
    work = work_of(network(nodes, {"x": (4, 4)}))
    assert work.macs == 64
    assert work.not_counted == {"Add": 1, "Relu": 2}


def network(nodes: list[Any], inputs: dict[str, Any], **more: Any) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in inputs.items()],
        [helper.make_empty_tensor_value_info("y")],
        **more,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.ops", 1)]
    return helper.make_model(graph, opset_imports=opsets)


def test_a_shape_that_depends_on_the_data_is_unknown_and_the_rest_is_counted() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["a"]),
        helper.make_node("NonZero", ["a"], ["n"]),
        helper.make_node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["t"]),
        helper.make_node("Gemm", ["f", "t"], ["y"]),
    ]
    work = work_of(network(nodes, {"x": (4, 4)}))
    assert work.macs == 64
    assert work.unknown == {"Gemm": "the shapes of its tensors cannot be inferred from the file"}


def test_an_operator_from_elsewhere_is_unknown() -> None:
    work = work_of(network([helper.make_node("Magic", ["x"], ["y"], domain="my.ops")], {"x": (4,)}))
    assert work.macs is None
    assert work.plain()["flops"] is None
    assert work.unknown == {"Magic": "not an operator of onnx itself, but of my.ops"}


@pytest.mark.parametrize(("inner", "known"), [("MatMul", False), ("Add", True)])
def test_a_branch_counts_as_unknown_where_it_would_count(inner: str, known: bool) -> None:
    def branch(name: str) -> Any:
        node = helper.make_node(inner, ["x", "x"], [name])
        return helper.make_graph([node], name, [], [helper.make_empty_tensor_value_info(name)])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], then_branch=branch("t"), else_branch=branch("e")),
    ]
    work = work_of(network(nodes, {"x": (4, 4)}))
    assert (work.macs, set(work.unknown)) == ((0, set()) if known else (None, {"If"}))


def test_free_dimensions_are_those_that_were_registered() -> None:
    """What the file itself says of a tensor behind a free input is not believed."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    weights = [numpy_helper.from_array(np.zeros((64, 32), np.float32), "w")]
    told = [helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 32])]
    model = network(nodes, {"x": ("n", 64)}, initializer=weights, value_info=told)
    assert work_of(model, x=(3, 64)).macs == 3 * 64 * 32
    assert work_of(model).macs is None


def test_shapes_are_followed_through_arithmetic_on_shapes() -> None:
    """Exporters write a flatten as Shape, Gather, Concat, Reshape."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Concat", ["n", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([0]), "zero"),
        numpy_helper.from_array(np.array([-1]), "rest"),
        numpy_helper.from_array(np.zeros((48, 100), np.float32), "w"),
    ]
    model = network(nodes, {"x": ("n", 3, 4, 4)}, initializer=weights)
    assert work_of(model, x=(2, 3, 4, 4)).macs == 2 * 48 * 100


def test_shapes_are_followed_where_onnx_alone_does_not() -> None:
    """Older exporters divide the sizes as floating-point numbers."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], start=1, end=2),
        helper.make_node("Cast", ["s"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["f", "half"], ["d"]),
        helper.make_node("Floor", ["d"], ["r"]),
        helper.make_node("Cast", ["r"], ["c"], to=TensorProto.INT64),
        helper.make_node("Concat", ["rest", "c"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([2.0], np.float32), "half"),
        numpy_helper.from_array(np.array([-1]), "rest"),
        numpy_helper.from_array(np.zeros((24, 100), np.float32), "w"),
    ]
    model = network(nodes, {"x": (3, 48)}, initializer=weights)
    told = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info
    flat = next(v for v in told if v.name == "flat")
    assert not flat.type.tensor_type.shape.dim[0].HasField("dim_value")
    assert work_of(model).macs == 3 * 48 * 100


def test_a_size_given_by_a_constant_operator_is_followed() -> None:
    to = numpy_helper.from_array(np.array([-1, 24]))
    nodes = [
        helper.make_node("Constant", [], ["a"], value=to),
        helper.make_node("Constant", [], ["one"], value_ints=[1, 1]),
        helper.make_node("Mul", ["a", "one"], ["to"]),
        helper.make_node("Reshape", ["x", "to"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    weights = [numpy_helper.from_array(np.zeros((24, 100), np.float32), "w")]
    model = network(nodes, {"x": (3, 48)}, initializer=weights)
    assert work_of(model).macs == 3 * 48 * 100


def test_functions_of_the_model_are_looked_into() -> None:
    body = helper.make_function(
        "my.ops",
        "Twice",
        ["a"],
        ["c"],
        [
            helper.make_node("MatMul", ["a", "a"], ["b"]),
            helper.make_node("MatMul", ["b", "a"], ["c"]),
        ],
        [helper.make_opsetid("", 17)],
    )
    model = network([helper.make_node("Twice", ["x"], ["y"], domain="my.ops")], {"x": (4, 4)})
    model.functions.append(body)
    assert work_of(model).by_operator == {"MatMul": 2 * 64}


def test_a_large_weight_is_declared_not_copied() -> None:
    shape = (2000, 300)
    model = one("MatMul", {"x": (1, 2000)}, {"w": shape})
    before = model.SerializeToString()
    graph = onnx_graph.of_model(model, {})
    assert graph.parameters == prod(shape)
    assert graph.inputs == ("x",)
    assert flops.count(graph).macs == prod(shape)
    assert model.SerializeToString() == before
