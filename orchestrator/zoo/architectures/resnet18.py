"""ResNet-18 (He et al., arXiv:1512.03385), torchvision's ``resnet18``."""

from __future__ import annotations

from orchestrator.zoo.builder import NetworkBuilder
from orchestrator.zoo.entry import ArchitectureInfo
from orchestrator.zoo.network import Network, Tensor
from orchestrator.zoo.residual import residual_network, shortcut
from orchestrator.zoo.weights import SeededWeights

INFO = ArchitectureInfo(
    name="resnet18",
    description="ResNet-18: basic residual blocks, 224x224 RGB, 1000 classes",
    # torchvision's 11 689 512 less the 4 800 normalised channels.
    parameters=11_684_712,
    input_shape=(3, 224, 224),
)


def build(seed: int) -> Network:
    """(3, 224, 224) → 1000 logits, seeded weights."""
    builder = NetworkBuilder(INFO.name)
    logits = residual_network(builder, INFO.input_shape, basic_block, (2, 2, 2, 2))
    return builder.build(logits, weights=SeededWeights(seed))


def basic_block(builder: NetworkBuilder, x: Tensor, width: int, stride: int) -> Tensor:
    """Two 3x3 convolutions and a shortcut, (C, H, W) → (width, H / stride, W / stride)."""
    y = builder.conv("conv1", x, width, 3, stride=stride, padding=1)
    y = builder.conv("conv2", builder.relu(y), width, 3, padding=1)
    return builder.relu(builder.add(y, shortcut(builder, x, width, stride)))
