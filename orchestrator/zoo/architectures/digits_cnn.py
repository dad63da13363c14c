"""The digits CNN of the ``format-chain`` study (Bavache et al., *Deep Neural Network Optimization*,
2023), trained on real handwritten digits by ``orchestrator.zoo.train_digits``.

The original is a Keras model of NHWC layout. Its kernels map on ours by HWIO → OIHW, its dense
kernels by transposition; the first dense layer reads channels outermost here and innermost there,
so its 1024 columns are permuted as well. Sizes, counts and operations are the same.
"""

from __future__ import annotations

from orchestrator.zoo.builder import NetworkBuilder
from orchestrator.zoo.entry import DATA, ArchitectureInfo
from orchestrator.zoo.network import Network
from orchestrator.zoo.weights import Weights, read_onnx_weights

INFO = ArchitectureInfo(
    name="digits_cnn",
    description="digits CNN: three convolutions, three dense layers, 28x28 grey, 10 classes",
    # 250 + 14 464 + 36 928 + 65 600 + 2 080 + 330, as published.
    parameters=119_652,
    input_shape=(1, 28, 28),
    trained=True,
    dataset="digits",
)


def build(seed: int) -> Network:
    """(1, 28, 28) in [0, 1] → 10 probabilities, trained weights; ``seed`` has no effect."""
    del seed
    return describe_with(read_onnx_weights(DATA / "digits_cnn.onnx"))


def describe_with(weights: Weights, *, probabilities: bool = True) -> Network:
    """The network with other weights; without ``probabilities`` it ends in logits, for training."""
    builder = NetworkBuilder(INFO.name)
    x = builder.input(INFO.input_shape)
    for number, channels in enumerate((25, 64, 64), start=1):
        x = builder.relu(builder.conv(f"conv{number}", x, channels, 3, padding="same"))
        x = builder.max_pool(x, 2, stride=2, padding="same")
    x = builder.flatten(x)
    x = builder.relu(builder.dense("dense1", x, 64))
    x = builder.relu(builder.dense("dense2", x, 32))
    x = builder.dense("dense3", x, 10)
    return builder.build(builder.softmax(x) if probabilities else x, weights=weights)
