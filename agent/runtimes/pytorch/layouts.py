"""Layouts of an exported program's inputs and outputs, from its graph: followed, never guessed.

PyTorch defines its two-dimensional operators on NCHW alone (whatever the memory format), so what
reaches one, through operators that keep the order of axes, is NCHW; what is permuted to that on the
way is known too.
"""

from __future__ import annotations

from typing import Any, Dict

MOST_NODES = 300
"""That are followed: inputs and outputs meet what tells within a few."""

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
_BEFORE = {("NCHW", (0, 3, 1, 2)): "NHWC", ("NHWC", (0, 2, 3, 1)): "NCHW"}
"""(layout after, permutation) → layout before."""


def layout(node: Any, forward: bool) -> str:
    """Of a node's value, by what it leads to (``forward``) or by what made it; empty: unknown."""
    return _follow(node, forward, {})


def _follow(node: Any, forward: bool, known: Dict[Any, str]) -> str:
    """``known``: what was found, or is being sought."""
    if node in known or len(known) > MOST_NODES or _rank(node) != 4:
        return known.get(node, "")
    known[node] = ""
    found = {_before(u, node, known) for u in node.users} if forward else {_made(node, known)}
    found.discard("")
    known[node] = found.pop() if len(found) == 1 else ""
    return known[node]


def _before(user: Any, node: Any, known: Dict[Any, str]) -> str:
    """The layout of ``node`` by one of its users."""
    name = _operator(user)
    if name in _SPATIAL:
        return "NCHW" if user.args and user.args[0] is node else ""
    if name in _KEEPS_AXES:
        return _follow(user, True, known)
    if name == "permute":
        return _BEFORE.get((_follow(user, True, known), tuple(user.args[1])), "")
    return ""


def _made(node: Any, known: Dict[Any, str]) -> str:
    name = _operator(node)
    if "getitem" in str(node.target):  # the first of several results
        name = _operator(node.args[0]) if node.args[1] == 0 else ""
    if name in _SPATIAL:
        return "NCHW"
    if name in _KEEPS_AXES:
        found = {_follow(source, False, known) for source in node.all_input_nodes}
        found.discard("")
        return found.pop() if len(found) == 1 else ""
    if name == "permute":
        before = _follow(node.args[0], False, known)
        order = tuple(node.args[1])
        return next((a for (a, o), b in _BEFORE.items() if (b, o) == (before, order)), "")
    return ""


def _operator(node: Any) -> str:
    """``conv2d`` of ``torch.ops.aten.conv2d.default``; empty where it calls none of ATen's."""
    words = str(node.target).split(".") if node.op == "call_function" else []
    return words[1] if len(words) == 3 and words[0] == "aten" else ""


def _rank(node: Any) -> int:
    shape = getattr(node.meta.get("val"), "shape", None)
    return -1 if shape is None else len(shape)
