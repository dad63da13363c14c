"""SqueezeNet 1.1 (Iandola et al., arXiv:1602.07360), torchvision's ``squeezenet1_1``."""

from __future__ import annotations

from orchestrator.zoo.builder import NetworkBuilder
from orchestrator.zoo.entry import ArchitectureInfo
from orchestrator.zoo.network import Network, Tensor
from orchestrator.zoo.weights import SeededWeights

INFO = ArchitectureInfo(
    name="squeezenet1_1",
    description="SqueezeNet 1.1: fire modules with branches, 224x224 RGB, 1000 classes",
    # It has no batch norm: the published count.
    parameters=1_235_496,
    input_shape=(3, 224, 224),
)

# Squeeze and expand widths of each run of fire modules, between the pools. torchvision pools with
# ceil_mode, which changes nothing at 224x224.
RUNS = (
    ((16, 64), (16, 64)),
    ((32, 128), (32, 128)),
    ((48, 192), (48, 192), (64, 256), (64, 256)),
)


def build(seed: int) -> Network:
    """(3, 224, 224) → 1000 logits, seeded weights. Dropout is left out: inference only."""
    builder = NetworkBuilder(INFO.name)
    x = builder.input(INFO.input_shape)
    x = builder.relu(builder.conv("features.0", x, 64, 3, stride=2))
    number = 2
    for run in RUNS:
        x = builder.max_pool(x, 3, stride=2)
        for squeeze, expand in run:
            number += 1
            x = builder.cell(f"features.{number}", fire, x, squeeze, expand)
        number += 1
    x = builder.relu(builder.conv("classifier.1", x, 1000, 1))
    return builder.build(builder.flatten(builder.global_avg_pool(x)), weights=SeededWeights(seed))


def fire(builder: NetworkBuilder, x: Tensor, squeeze: int, expand: int) -> Tensor:
    """Squeeze by 1x1, then 1x1 and 3x3 side by side, (C, H, W) → (2 · expand, H, W)."""
    x = builder.relu(builder.conv("squeeze", x, squeeze, 1))
    one = builder.relu(builder.conv("expand1x1", x, expand, 1))
    three = builder.relu(builder.conv("expand3x3", x, expand, 3, padding=1))
    return builder.concat(one, three)
