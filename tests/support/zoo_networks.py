"""What the contracts of the zoo's emitters share: a network of every operator, and how outputs are
compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from orchestrator.zoo import emit_onnx
from orchestrator.zoo.builder import NetworkBuilder
from orchestrator.zoo.network import Network, Tensor
from orchestrator.zoo.weights import SeededWeights

Array = NDArray[np.float32]


def arrays(path: Path) -> list[Array]:
    with np.load(path) as stored:
        return [stored[name] for name in stored]


def onnx_outputs(network: Network, feed: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(
        emit_onnx.to_bytes(network, batch=len(feed)), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {"input": feed}))


def feed_for(network: Network, batch: int) -> Array:
    state = np.random.RandomState(11)
    return state.random_sample((batch, *network.inputs[0].shape)).astype(np.float32)


def assert_agree(found: list[Array], expected: list[Array], tolerance: float = 1e-3) -> None:
    """``tolerance`` is relative to the largest expected value, since one near zero has no scale of
    its own."""
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(theirs).max() > 0
        assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()
        a, b = ours.astype(np.float64).ravel(), theirs.astype(np.float64).ravel()
        assert a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) > 0.999999


def every_operator(seed: int = 2) -> Network:
    """Each operator, with each flavour of padding that a framework expresses in its own way."""

    def branches(builder: NetworkBuilder, x: Tensor) -> Tensor:
        dilated = builder.conv("dilated", x, 6, 3, dilation=2, padding=2)
        factorised = builder.conv("tall", x, 6, (5, 1), padding=(2, 0))
        grouped = builder.conv("grouped", builder.relu(x), 6, 3, padding="same", groups=3)
        pooled = builder.avg_pool(x, 3, stride=1, padding=1)
        total = builder.add(dilated, factorised, pooled)
        return builder.concat(builder.relu6(total), grouped, x)

    builder = NetworkBuilder("every_operator")
    x = builder.input((3, 23, 30))
    x = builder.conv("strided", x, 6, 4, stride=2, padding="same")
    x = builder.cell("branches", branches, x)
    paths = [
        builder.max_pool(x, 3, stride=2, padding="same"),
        builder.max_pool(x, 3, stride=2, padding=1),
        builder.max_pool(x, 2, stride=2, padding="same"),
        builder.avg_pool(x, 3, stride=2, padding="same"),
        builder.avg_pool(x, (2, 3), stride=2, padding="same"),
    ]
    # Even kernels at stride 1 pad one end alone, which no PyTorch pool does by itself.
    paths += [builder.max_pool(p, 2, stride=1, padding="same") for p in paths[:1]]
    paths += [builder.avg_pool(p, 2, stride=1, padding="same") for p in paths[:1]]
    x = builder.flatten(builder.global_avg_pool(builder.concat(*paths)))
    plain = builder.dense("plain", x, 7)
    return builder.build(
        plain, builder.softmax(builder.dense("classes", x, 5)), weights=SeededWeights(seed)
    )
