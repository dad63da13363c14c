"""Building networks: branches, cells, shapes, and mistakes refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest

from orchestrator.zoo.builder import NetworkBuilder
from orchestrator.zoo.describe import describe
from orchestrator.zoo.errors import DuplicateName, ShapeMismatch, UnknownTensor, UnusedLayer
from orchestrator.zoo.network import Network, Tensor
from orchestrator.zoo.weights import SeededWeights


def inception_like(builder: NetworkBuilder, x: Tensor, width: int) -> Tensor:
    """A cell with three branches, one of them factorised."""
    wide = builder.conv(
        "wide", builder.conv("tall", x, width, (7, 1), padding=(3, 0)), width, (1, 7)
    )
    pooled = builder.avg_pool(x, (1, 7), stride=1)
    return builder.concat(wide, pooled, builder.conv("point", x, width, (1, 7)))


def two_cells() -> Network:
    builder = NetworkBuilder("two_cells")
    x = builder.input((3, 16, 20))
    for number in range(2):
        x = builder.cell(f"cell{number}", inception_like, x, width=4)
    return builder.build(x, weights=SeededWeights(1))


def test_cells_repeat_a_sub_graph_under_their_own_names() -> None:
    network = two_cells()
    first = [node for node in network.nodes if node.name.startswith("cell0.")]
    second = [node for node in network.nodes if node.name.startswith("cell1.")]
    assert [node.op for node in first] == [node.op for node in second]
    assert [node.shape for node in network.outputs] == [(4 + (4 + 3 + 4) + 4, 16, 8)]
    weights = [node.parameters[0] for node in (first[0], second[0])]
    assert weights[0].name == "cell0.tall.weight"
    assert weights[1].shape == (4, 11, 7, 1)


def test_nodes_come_after_what_they_read() -> None:
    known = {"input"}
    for node in two_cells().nodes:
        assert set(node.inputs) <= known
        known.add(node.name)


def test_a_network_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        two_cells().nodes[0].name = "other"  # type: ignore[misc]


def test_unnamed_layers_get_free_names() -> None:
    builder = NetworkBuilder("names")
    x = builder.input((1, 4, 4))
    assert [builder.relu(x).name, builder.relu(x).name] == ["relu", "relu_2"]
    with builder.scope("a"), builder.scope("b"):
        assert builder.relu(x).name == "a.b.relu"


def test_several_outputs_are_kept_in_order() -> None:
    builder = NetworkBuilder("heads")
    x = builder.flatten(builder.input((2, 3, 3)))
    heads = [builder.dense(name, x, size) for name, size in (("b", 4), ("a", 2))]
    network = builder.build(*heads, weights=SeededWeights())
    assert [(head.name, head.shape) for head in network.outputs] == [("b", (4,)), ("a", (2,))]


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (lambda b, x: b.dense("fc", x, 4), r"fc: dense wants a vector, input is \(6, 8, 8\)"),
        (lambda b, x: b.conv("c", b.flatten(x), 4, 3), "c: wants .channels, height, width"),
        (lambda b, x: b.conv("c", x, 4, 9), "c: a .* kernel does not fit"),
        (lambda b, x: b.conv("c", x, 4, 3, groups=4), "c: 4 groups must divide 6 input and 4"),
        (lambda b, x: b.conv("c", x, 0, 3), "c: 1 groups must divide 6 input and 0"),
        (lambda b, x: b.add(x, b.conv("c", x, 6, 3)), r"one shape, found \[\(6, 6, 6\), \(6, 8"),
        (lambda b, x: b.add(x), "two or more"),
        (lambda b, x: b.concat(x, b.conv("c", x, 6, 3)), "equal but for their channels"),
        (lambda b, x: b.softmax(x), "softmax wants a vector"),
        (lambda b, x: b.max_pool(x, 9, stride=1, name="p"), "p: a .* kernel does not fit"),
        (lambda b, x: b.global_avg_pool(b.flatten(x)), "wants .channels, height, width"),
        (lambda b, x: b.input((0, 3), name="second"), "second: shape"),
    ],
)
def test_a_wrong_shape_is_refused_at_once(
    mistake: Callable[[NetworkBuilder, Tensor], Tensor], said: str
) -> None:
    builder = NetworkBuilder("wrong")
    x = builder.input((6, 8, 8))
    with pytest.raises(ShapeMismatch, match=said):
        mistake(builder, x)


def test_a_name_is_used_once() -> None:
    builder = NetworkBuilder("twice")
    x = builder.input((1, 4, 4))
    builder.conv("c", x, 1, 1)
    with pytest.raises(DuplicateName, match="c exists"):
        builder.conv("c", x, 1, 1)


def test_tensors_of_another_network_are_refused() -> None:
    stranger = NetworkBuilder("other").input((2, 4, 4), name="elsewhere")
    with pytest.raises(UnknownTensor, match="elsewhere"):
        NetworkBuilder("mine").relu(stranger)


def test_every_layer_leads_to_an_output() -> None:
    builder = NetworkBuilder("loose")
    x = builder.input((1, 4, 4))
    builder.conv("forgotten", x, 1, 1)
    with pytest.raises(UnusedLayer, match="forgotten leads to no output"):
        builder.build(builder.relu(x), weights=SeededWeights())


def test_an_output_is_a_layer_of_this_network() -> None:
    builder = NetworkBuilder("empty")
    x = builder.input((1, 4, 4))
    with pytest.raises(UnknownTensor, match="outputs must be one or more different layers"):
        builder.build(x, weights=SeededWeights())
    with pytest.raises(UnknownTensor, match="outputs must be"):
        builder.build(weights=SeededWeights())


def test_describe_counts_by_hand() -> None:
    builder = NetworkBuilder("small")
    x = builder.input((4, 5, 5))
    x = builder.conv("c", x, 8, 3, padding=1, groups=2)
    x = builder.dense("d", builder.flatten(builder.global_avg_pool(x)), 3)
    found = describe(builder.build(x, weights=SeededWeights()))
    assert found.parameters == (8 * 2 * 9 + 8) + (3 * 8 + 3)
    assert found.flops == 2 * (8 * 5 * 5 * 2 * 9 + 3 * 8)
    assert found.layers == 2
    assert found.activations == 8 * 25 + 8 + 8 + 3
    assert found.largest_activation == 200
    assert found.operators == {"conv": 1, "dense": 1, "flatten": 1, "global_avg_pool": 1}
