"""Layouts of an exported program's inputs and outputs (``agent.formats.layouts``).

PyTorch defines its two-dimensional operators on NCHW alone, whatever the memory format.
"""

from __future__ import annotations

from typing import Any, Iterator

from agent.formats.layouts import Step, input_layout, output_layout

_SPATIAL = (
    "conv2d",
    "convolution",
    "conv_transpose2d",
    "max_pool2d",
    "max_pool2d_with_indices",
    "avg_pool2d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "batch_norm",
    "_native_batch_norm_legit_no_training",
    "instance_norm",
    "pixel_shuffle",
    "pixel_unshuffle",
    "upsample_bilinear2d",
    "upsample_nearest2d",
)
_KEEPS_AXES = (
    "add",
    "sub",
    "mul",
    "div",
    "relu",
    "relu_",
    "hardtanh",
    "hardtanh_",
    "leaky_relu",
    "clamp",
    "sigmoid",
    "silu",
    "silu_",
    "gelu",
    "tanh",
    "hardswish",
    "hardswish_",
    "hardsigmoid",
    "dropout",
    "pad",
    "constant_pad_nd",
    "clone",
    "contiguous",
    "to",
    "_to_copy",
)


def layout(node: Any, forward: bool) -> str:
    """Layout of a node's value, by what takes it (``forward``) or what made it; empty: unknown."""
    return input_layout(node, _takers) if forward else output_layout(node, _makers)


def _takers(node: Any) -> Iterator[Step]:
    if _rank(node) != 4:
        return
    for user in node.users:
        name = _operator(user)
        if name in _SPATIAL and user.args and user.args[0] is node:
            yield Step("NCHW")
        elif name in _KEEPS_AXES:
            yield Step(tensor=user)
        elif name == "permute":
            yield Step(tensor=user, order=tuple(user.args[1]))


def _makers(node: Any) -> Iterator[Step]:
    if _rank(node) != 4:
        return
    name = _operator(node)
    if "getitem" in str(node.target):  # the first of several results
        name = _operator(node.args[0]) if node.args[1] == 0 else ""
    if name in _SPATIAL:
        yield Step("NCHW")
    elif name in _KEEPS_AXES:
        yield from (Step(tensor=source) for source in node.all_input_nodes)
    elif name == "permute":
        yield Step(tensor=node.args[0], order=tuple(node.args[1]))


def _operator(node: Any) -> str:
    """``conv2d`` of ``torch.ops.aten.conv2d.default``; empty where it is not an ATen operator."""
    words = str(node.target).split(".") if node.op == "call_function" else []
    return words[1] if len(words) == 3 and words[0] == "aten" else ""


def _rank(node: Any) -> int:
    shape = getattr(node.meta.get("val"), "shape", None)
    return -1 if shape is None else len(shape)
