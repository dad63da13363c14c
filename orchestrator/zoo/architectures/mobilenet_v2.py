"""MobileNetV2 at width 1.0 (Sandler et al., arXiv:1801.04381), torchvision's ``mobilenet_v2``."""

from __future__ import annotations

from orchestrator.zoo.builder import NetworkBuilder
from orchestrator.zoo.entry import ArchitectureInfo
from orchestrator.zoo.network import Network, Tensor
from orchestrator.zoo.weights import SeededWeights

# Expansion, output channels, repeats, first stride: table 2 of the paper.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

INFO = ArchitectureInfo(
    name="mobilenet_v2",
    description="MobileNetV2 1.0: depthwise inverted residuals, 224x224 RGB, 1000 classes",
    # torchvision's 3 504 872 less the 17 056 normalised channels.
    parameters=3_487_816,
    input_shape=(3, 224, 224),
)


def build(seed: int) -> Network:
    """(3, 224, 224) → 1000 logits, seeded weights. Dropout is left out: inference only."""
    builder = NetworkBuilder(INFO.name)
    x = builder.input(INFO.input_shape)
    x = builder.relu6(builder.conv("features.0", x, 32, 3, stride=2, padding=1))
    number = 1
    for expansion, channels, repeats, first_stride in STAGES:
        for repeat in range(repeats):
            stride = 1 if repeat else first_stride
            scope = f"features.{number}"
            x = builder.cell(scope, inverted_residual, x, channels, stride, expansion)
            number += 1
    x = builder.relu6(builder.conv(f"features.{number}", x, 1280, 1))
    logits = builder.dense("classifier", builder.flatten(builder.global_avg_pool(x)), 1000)
    return builder.build(logits, weights=SeededWeights(seed))


def inverted_residual(
    builder: NetworkBuilder, x: Tensor, channels: int, stride: int, expansion: int
) -> Tensor:
    """Expand by 1x1, filter depthwise by 3x3, project linearly; add ``x`` where shapes agree."""
    y, hidden = x, x.shape[0] * expansion
    if expansion != 1:
        y = builder.relu6(builder.conv("expand", y, hidden, 1))
    y = builder.conv("depthwise", y, hidden, 3, stride=stride, padding=1, groups=hidden)
    y = builder.conv("project", builder.relu6(y), channels, 1)
    return builder.add(x, y) if y.shape == x.shape else y
