"""What a channels-last emitter learns: where flattened features lie, and what is never negative."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from orchestrator.zoo.builder import NetworkBuilder
from orchestrator.zoo.channels_last import Axes
from orchestrator.zoo.network import Network, Tensor
from orchestrator.zoo.weights import SeededWeights

SHAPE = (2, 3, 4)
FLAT = np.arange(24).reshape(SHAPE).transpose(1, 2, 0).ravel()


def built(describe: Callable[[NetworkBuilder, Tensor], tuple[Tensor, ...]]) -> Network:
    builder = NetworkBuilder("n")
    return builder.build(*describe(builder, builder.input(SHAPE)), weights=SeededWeights())


def test_flattened_features_come_channels_innermost() -> None:
    network = built(lambda b, x: (b.dense("d", b.relu(b.flatten(x)), 2),))
    axes = Axes(network)
    assert not axes.must_permute(network.nodes[0])
    image = np.random.RandomState(0).random_sample(SHAPE)
    order = axes.order("relu")
    assert order is not None
    assert (image.ravel()[order] == image.transpose(1, 2, 0).ravel()).all()
    assert axes.order("d") is None
    assert axes.order("input") is None


def test_joined_features_keep_their_places_apart() -> None:
    def describe(builder: NetworkBuilder, x: Tensor) -> tuple[Tensor, ...]:
        plain = builder.flatten(builder.global_avg_pool(x))
        return (builder.dense("d", builder.concat(plain, builder.flatten(x)), 2),)

    order = Axes(built(describe)).order("concat")
    assert order is not None
    assert order.tolist() == [0, 1, *(2 + FLAT)]


@pytest.mark.parametrize(
    "describe",
    [
        lambda b, x: (b.flatten(x),),
        lambda b, x: (b.softmax(b.flatten(x)),),
        lambda b, x: (b.dense("d", b.add(f := b.flatten(x), b.relu(f)), 2),),
        lambda b, x: (f := b.flatten(x), b.dense("d", f, 2)),
    ],
    ids=["output", "output of softmax", "sum", "output and dense"],
)
def test_where_not_only_dense_layers_read_them_the_image_is_permuted(
    describe: Callable[[NetworkBuilder, Tensor], tuple[Tensor, ...]],
) -> None:
    network = built(describe)
    assert Axes(network).must_permute(network.nodes[0])
    assert all(Axes(network).order(node.name) is None for node in network.nodes)


@pytest.mark.parametrize("shape", [(1, 3, 4), (5, 1, 1), (6,), (2, 3)])
def test_what_has_one_order_only_stays(shape: tuple[int, ...]) -> None:
    builder = NetworkBuilder("n")
    network = builder.build(builder.flatten(builder.input(shape)), weights=SeededWeights())
    assert not Axes(network).must_permute(network.nodes[0])
    assert Axes(network).order("flatten") is None


def test_the_sign_is_known_after_a_rectifier_alone() -> None:
    def describe(builder: NetworkBuilder, x: Tensor) -> tuple[Tensor, ...]:
        y = builder.relu(builder.conv("c", x, 2, 1))
        builder.add(y, x, name="mixed")
        pooled = builder.max_pool(builder.add(y, y, name="both"), 2, stride=1, name="pooled")
        return pooled, Tensor("mixed", SHAPE)

    axes = Axes(built(describe))
    known = ["input", "c", "relu", "mixed", "both", "pooled"]
    assert [axes.never_negative(name) for name in known] == [False, False, True, False, True, True]
