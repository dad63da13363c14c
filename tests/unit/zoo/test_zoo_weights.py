"""Weights: stable streams, right scale, stored ones checked against the architecture."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.zoo import emit_onnx
from orchestrator.zoo.builder import NetworkBuilder
from orchestrator.zoo.errors import WeightsMismatch
from orchestrator.zoo.moments import Moments, of_mixture, of_sum
from orchestrator.zoo.network import Network
from orchestrator.zoo.weights import Parameter, SeededWeights, StoredWeights, read_onnx_weights


def chain(layers: int, seed: int = 0) -> Network:
    builder = NetworkBuilder("chain")
    x = builder.input((3, 8, 8))
    for number in range(layers):
        x = builder.relu(builder.conv(f"c{number}", x, 3, 3, padding=1))
    return builder.build(x, weights=SeededWeights(seed))


def test_the_stream_never_changes() -> None:
    """Written down once: published engines and references are found by these bytes."""
    array = SeededWeights(0).array(Parameter("conv1.weight", (4, 3, 3, 3), 0.5))
    assert array.dtype == np.float32
    assert (
        hashlib.sha256(array.tobytes()).hexdigest()
        == "a647c81b322f2376a6f2dcd6b002be602c5c3de6e3a6e8c4730b1694cc5ce6a1"
    )


def test_another_layer_leaves_the_others_as_they_are() -> None:
    short, long = chain(2, seed=5), chain(4, seed=5)
    for parameter in short.parameters:
        assert parameter in long.parameters
        np.testing.assert_array_equal(short.array(parameter), long.array(parameter))


def test_seeds_and_names_give_different_weights() -> None:
    parameter = Parameter("a", (50,), 1.0)
    other = Parameter("b", (50,), 1.0)
    first = SeededWeights(0).array(parameter)
    assert not np.array_equal(first, SeededWeights(1).array(parameter))
    assert not np.array_equal(first, SeededWeights(0).array(other))


@given(std=st.floats(1e-3, 10.0), seed=st.integers(0, 2**32))
def test_a_draw_has_the_asked_deviation(std: float, seed: int) -> None:
    draw = SeededWeights(seed).array(Parameter("p", (4000,), std))
    assert draw.std() == pytest.approx(std, rel=0.1)
    assert abs(draw.mean()) < 0.1 * std
    assert np.abs(draw).max() <= np.sqrt(3.0) * std * (1 + 1e-6)


def test_stored_weights_come_back_from_onnx(tmp_path: Path) -> None:
    network = chain(2)
    emit_onnx.write(network, tmp_path / "chain.onnx")
    stored = read_onnx_weights(tmp_path / "chain.onnx")
    for parameter in network.parameters:
        np.testing.assert_array_equal(stored.array(parameter), network.array(parameter))


def test_stored_weights_must_fit() -> None:
    stored = StoredWeights({"a": np.zeros((2, 2), dtype=np.float32)}, origin="file.onnx")
    with pytest.raises(WeightsMismatch, match=r"file.onnx has no parameter 'b'; it has: a"):
        stored.array(Parameter("b", (2, 2), 0.0))
    with pytest.raises(WeightsMismatch, match=r"'a' has shape \(2, 2\), .* wants \(4,\)"):
        stored.array(Parameter("a", (4,), 0.0))


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.7, 2.0), (-1.0, 0.5)])
def test_rectified_moments_are_those_of_a_cut_off_normal(mean: float, deviation: float) -> None:
    sample = np.maximum(np.random.RandomState(0).normal(mean, deviation, 400_000), 0.0)
    found = Moments(mean, mean**2 + deviation**2).rectified()
    assert found.mean == pytest.approx(sample.mean(), rel=0.02)
    assert found.square == pytest.approx((sample**2).mean(), rel=0.02)


def test_moments_of_constants() -> None:
    assert Moments(2.0, 4.0).rectified() == Moments(2.0, 4.0)
    assert Moments(-2.0, 4.0).rectified() == Moments(0.0, 0.0)
    assert of_sum([Moments(2.0, 4.0), Moments(1.0, 1.0)]) == Moments(3.0, 9.0)
    assert of_mixture([(1, Moments(0.0, 4.0)), (3, Moments(4.0, 16.0))]) == Moments(3.0, 13.0)
