"""What the residual networks of torchvision's ``resnet`` family share: stem, four stages, head."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.zoo.builder import NetworkBuilder
from orchestrator.zoo.network import Shape, Tensor

Block = Callable[[NetworkBuilder, Tensor, int, int], Tensor]
"""(builder, input, width, stride) → output; the stage's width grows 64, 128, 256, 512."""


def residual_network(
    builder: NetworkBuilder, input_shape: Shape, block: Block, depths: tuple[int, ...]
) -> Tensor:
    """The 1000 logits of a network with ``depths`` blocks in its stages."""
    x = builder.input(input_shape)
    x = builder.relu(builder.conv("conv1", x, 64, 7, stride=2, padding=3))
    x = builder.max_pool(x, 3, stride=2, padding=1)
    for stage, depth in enumerate(depths):
        for index in range(depth):
            stride = 2 if stage and not index else 1
            x = builder.cell(f"layer{stage + 1}.{index}", block, x, 64 * 2**stage, stride)
    return builder.dense("fc", builder.flatten(builder.global_avg_pool(x)), 1000)


def shortcut(builder: NetworkBuilder, x: Tensor, channels: int, stride: int) -> Tensor:
    """``x`` itself where it already has the block's shape, else a strided 1x1 projection of it."""
    if x.shape[0] == channels and stride == 1:
        return x
    return builder.conv("downsample.0", x, channels, 1, stride=stride)
