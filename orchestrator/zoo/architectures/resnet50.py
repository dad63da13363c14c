"""ResNet-50 (He et al., arXiv:1512.03385) as torchvision's ``resnet50`` has it: the stride of a
block is in its 3x3 convolution ("v1.5"), not in its first 1x1."""

from __future__ import annotations

from orchestrator.zoo.builder import NetworkBuilder
from orchestrator.zoo.entry import ArchitectureInfo
from orchestrator.zoo.network import Network, Tensor
from orchestrator.zoo.residual import residual_network, shortcut
from orchestrator.zoo.weights import SeededWeights

EXPANSION = 4

INFO = ArchitectureInfo(
    name="resnet50",
    description="ResNet-50 v1.5: bottleneck residual blocks, 224x224 RGB, 1000 classes",
    # torchvision's 25 557 032 less the 26 560 normalised channels.
    parameters=25_530_472,
    input_shape=(3, 224, 224),
)


def build(seed: int) -> Network:
    """(3, 224, 224) → 1000 logits, seeded weights."""
    builder = NetworkBuilder(INFO.name)
    logits = residual_network(builder, INFO.input_shape, bottleneck, (3, 4, 6, 3))
    return builder.build(logits, weights=SeededWeights(seed))


def bottleneck(builder: NetworkBuilder, x: Tensor, width: int, stride: int) -> Tensor:
    """1x1, 3x3, 1x1 and a shortcut, (C, H, W) → (4 · width, H / stride, W / stride)."""
    y = builder.relu(builder.conv("conv1", x, width, 1))
    y = builder.relu(builder.conv("conv2", y, width, 3, stride=stride, padding=1))
    y = builder.conv("conv3", y, EXPANSION * width, 1)
    return builder.relu(builder.add(y, shortcut(builder, x, EXPANSION * width, stride)))
