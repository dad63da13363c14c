"""Writes a network as a functional Keras 3 model with the same weights: ``.keras``, or ``.h5``.

The model is channels-last: an image input of (channels, height, width) becomes (batch, height,
width, channels), and so does an image output. Vectors are as they were. Only stock layers are used,
no operations of ``keras.ops``: a ``.h5`` could not be loaded with them.

Runs under the tensorflow runtime environment; from the command line:
``python -m orchestrator.zoo.emit_keras NAME OUT.keras|OUT.h5 [--batch N] [--seed S]``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.zoo.channels_last import Axes
from orchestrator.zoo.emit_command import emit
from orchestrator.zoo.errors import (
    FormatNotEmitted,
    OperatorNotEmitted,
    ShapeMismatch,
    ToolMissing,
)
from orchestrator.zoo.keras_archive import without_date
from orchestrator.zoo.network import Network, Node, Shape
from orchestrator.zoo.windows import resolve

if TYPE_CHECKING:
    import keras

SUFFIXES = (".keras", ".h5")


def to_keras(network: Network, batch: int = 1) -> keras.Model:
    """A functional ``keras.Model`` of a fixed ``batch``, its layers named as in the network, but
    for what a TensorFlow scope does not take; a single output's layer is ``output``.

    Raises ToolMissing without Keras and TensorFlow, UnsupportedOperator, ShapeMismatch if ``batch``
    < 1, WeightsMismatch.
    """
    module = _keras()
    if batch < 1:
        raise ShapeMismatch(f"{network.name}: batch {batch} must be at least 1")
    emission = _Emission(module.layers, network)
    values = {
        tensor.name: module.Input(
            batch_shape=(batch, *_channels_last(tensor.shape)),
            dtype="float32",
            name=emission.names[tensor.name],
        )
        for tensor in network.inputs
    }
    inputs = list(values.values())
    for node in network.nodes:
        if node.op not in OPERATORS:
            raise OperatorNotEmitted(f"{node.name}: no Keras rule for {node.op!r}")
        values[node.name] = OPERATORS[node.op](emission, node, [values[n] for n in node.inputs])
    outputs = [values[tensor.name] for tensor in network.outputs]
    return module.Model(
        inputs[0] if len(inputs) == 1 else inputs,
        outputs[0] if len(outputs) == 1 else outputs,
        name=_sane(network.name),
    )


def export_keras(network: Network, path: Path, batch: int = 1) -> None:
    """Writes the model atomically in the format of the file name's suffix; the bytes are the same
    for the same network, seed and version of Keras.

    Raises what ``to_keras`` raises, UnsupportedFormat for another suffix, OSError.
    """
    if path.suffix not in SUFFIXES:
        raise FormatNotEmitted(
            f"{path.name}: Keras models are written as {' or '.join(SUFFIXES)}, "
            f"not as {path.suffix or 'a file without suffix'}"
        )
    model = to_keras(network, batch)
    # Keras reads the format from the suffix.
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        model.save(partial)
        if path.suffix == ".keras":
            without_date(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@dataclass
class _Emission:
    layers: Any
    network: Network
    names: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        network = self.network
        self.axes = Axes(network)
        if len(network.outputs) == 1:
            self.names[network.outputs[0].name] = self.claim("output")
        for tensor in (*network.inputs, *(node.output for node in network.nodes)):
            self.shapes[tensor.name] = tensor.shape
            if tensor.name not in self.names:
                self.names[tensor.name] = self.claim(tensor.name)

    def claim(self, name: str) -> str:
        """A unique layer name, derived from ``name``, that is valid as a TensorFlow scope."""
        base, number = _sane(name), 2
        name = base
        while name in self.taken:
            name, number = f"{base}_{number}", number + 1
        self.taken.add(name)
        return name

    def layer(self, kind: str, node: Node, part: str = "", **options: Any) -> Any:
        """A new layer for the node, or for a named ``part`` of its work."""
        name = self.names[node.name]
        # A dtype name for each layer: a shared policy object is serialised with its memory address.
        return getattr(self.layers, kind)(
            name=self.claim(f"{name}_{part}") if part else name, dtype="float32", **options
        )

    def call(self, kind: str, node: Node, x: Any, part: str = "", **options: Any) -> Any:
        """Calls a new layer on ``x``."""
        return self.layer(kind, node, part, **options)(x)

    def filled(
        self, kind: str, node: Node, x: Any, kernel: Any, part: str = "", **options: Any
    ) -> Any:
        """Calls a new layer on ``x``; its weights are ``kernel`` and the node's bias."""
        layer = self.layer(kind, node, part, **options)
        y = layer(x)
        layer.set_weights([kernel, self.array(node, 1)])
        return y

    def array(self, node: Node, index: int) -> Any:
        """The node's weight (0) or bias (1)."""
        return self.network.array(node.parameters[index])

    def padding(self, node: Node, dilation: tuple[int, ...] = (1, 1)) -> str:
        """Keras' name for this node's padding: ``valid``, ``same``, or empty if neither matches."""
        pads = node.attribute("pads")
        if not any(pads):
            return "valid"
        size = self.shapes[node.inputs[0]][1:]
        kernel, stride = (_pair(node.attribute(key)) for key in ("kernel", "stride"))
        same = resolve(
            node.name, size, kernel=kernel, stride=stride, padding="same", dilation=_pair(dilation)
        )
        return "same" if same.pads == pads else ""

    def zero_padded(self, node: Node, x: Any) -> Any:
        """``x`` padded with zeros by a separate layer."""
        top, left, bottom, right = node.attribute("pads")
        if not (top or left or bottom or right):
            return x
        sides = ((top, bottom), (left, right))
        return self.call("ZeroPadding2D", node, x, "pad", padding=sides, **LAST)

    def every(self, node: Node, x: Any) -> Any:
        """Every stride-th pixel of ``x``, the output of a window with stride 1."""
        return self.call(
            "MaxPooling2D", node, x, pool_size=1, strides=node.attribute("stride"), **LAST
        )


Rule = Callable[[_Emission, Node, list[Any]], Any]
LAST = {"data_format": "channels_last"}
"""Passed to each layer, because a user's Keras settings may have another default."""


def _keras() -> Any:
    try:
        import keras
    except ImportError as error:
        raise ToolMissing(
            f"emitting Keras needs keras and tensorflow ({error}): `benchfarm-agent runtimes add "
            "tensorflow` builds an environment that has both"
        ) from error
    return keras


def _sane(name: str) -> str:
    """``name`` reduced to characters that TensorFlow's scopes and all file formats accept."""
    sane = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return sane if sane[:1].isalnum() else f"n{sane}"


def _channels_last(shape: Shape) -> Shape:
    return (*shape[1:], shape[0]) if len(shape) == 3 else shape


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[1]


def _layer(kind: str, **options: Any) -> Rule:
    def rule(emission: _Emission, node: Node, inputs: list[Any]) -> Any:
        return emission.call(kind, node, inputs[0], **options)

    return rule


def _conv(emission: _Emission, node: Node, inputs: list[Any]) -> Any:
    x = inputs[0]
    stride, dilation = node.attribute("stride"), node.attribute("dilation")
    weight = emission.array(node, 0)
    groups = node.attribute("groups")[0]
    depthwise = groups > 1 and weight.shape[1] == 1
    # TensorFlow supports strides neither with dilation, nor unequal ones in depthwise convolutions.
    singly = max(stride) > 1 and (max(dilation) > 1 or (depthwise and stride[0] != stride[1]))
    padding = emission.padding(node, dilation)
    if singly or not padding:
        x, padding = emission.zero_padded(node, x), "valid"
    options: dict[str, Any] = {
        "kernel_size": node.attribute("kernel"),
        "strides": (1, 1) if singly else stride,
        "padding": padding,
        "dilation_rate": dilation,
        **LAST,
    }
    part = "singly" if singly else ""
    kernel = weight.transpose(2, 3, 1, 0)
    if depthwise:
        # In both layouts the outputs of one input channel are adjacent.
        kernel = kernel.reshape(*kernel.shape[:2], groups, -1)
        options |= {"depth_multiplier": kernel.shape[3], "depthwise_initializer": "zeros"}
        y = emission.filled("DepthwiseConv2D", node, x, kernel, part, **options)
    else:
        # On a CPU TensorFlow compiles grouped convolutions; frozen graphs keep them as a function
        # that few converters support. Only splitting would avoid it, which .h5 files cannot
        # represent.
        options |= {"filters": weight.shape[0], "groups": groups, "kernel_initializer": "zeros"}
        y = emission.filled("Conv2D", node, x, kernel, part, **options)
    return emission.every(node, y) if singly else y


def _dense(emission: _Emission, node: Node, inputs: list[Any]) -> Any:
    kernel = emission.array(node, 0)
    order = emission.axes.order(node.inputs[0])
    if order is not None:
        kernel = kernel[:, order]
    options: dict[str, Any] = {"units": kernel.shape[0], "kernel_initializer": "zeros"}
    return emission.filled("Dense", node, inputs[0], kernel.T, **options)


def _pool(kind: str, padding_with_zeros_is_exact: Callable[[_Emission, Node], bool]) -> Rule:
    def rule(emission: _Emission, node: Node, inputs: list[Any]) -> Any:
        x, padding = inputs[0], emission.padding(node)
        options: dict[str, Any] = {"pool_size": node.attribute("kernel"), **LAST}
        if not padding and padding_with_zeros_is_exact(emission, node):
            x, padding = emission.zero_padded(node, x), "valid"
        if padding:
            stride = node.attribute("stride")
            return emission.call(kind, node, x, strides=stride, padding=padding, **options)
        # With stride 1 and "same" padding, the windows include all those of the node, and padding
        # does not count.
        crop = _surplus(node, emission.shapes[node.inputs[0]])
        x = emission.call(kind, node, x, "singly", strides=1, padding="same", **options)
        if any(end for side in crop for end in side):
            x = emission.call("Cropping2D", node, x, "crop", cropping=crop, **LAST)
        return emission.every(node, x)

    return rule


def _surplus(node: Node, shape: Shape) -> list[tuple[int, int]]:
    """Number of stride-1 windows before the node's first and after its last, by axis.

    Raises UnsupportedOperator if the node's begin before them or end after.
    """
    kernel, stride, pads = (node.attribute(key) for key in ("kernel", "stride", "pads"))
    crop = []
    for axis in range(2):
        before = (kernel[axis] - 1) // 2 - pads[axis]
        after = shape[axis + 1] - before - (node.shape[axis + 1] - 1) * stride[axis] - 1
        crop.append((before, after))
    if any(end < 0 for side in crop for end in side):
        raise OperatorNotEmitted(
            f"{node.name}: no Keras layer pads a {kernel} {node.op} by {pads} (top, left, bottom, "
            "right); at most half the kernel, or the padding 'same', can be written"
        )
    return crop


def _zeros_never_win(emission: _Emission, node: Node) -> bool:
    return emission.axes.never_negative(node.inputs[0])


def _zeros_weigh(_emission: _Emission, _node: Node) -> bool:
    return False


def _add(emission: _Emission, node: Node, inputs: list[Any]) -> Any:
    return emission.call("Add", node, inputs)


def _concat(emission: _Emission, node: Node, inputs: list[Any]) -> Any:
    return emission.call("Concatenate", node, inputs, axis=3 if len(node.shape) == 3 else 1)


def _flatten(emission: _Emission, node: Node, inputs: list[Any]) -> Any:
    x = inputs[0]
    if emission.axes.must_permute(node):
        x = emission.call("Permute", node, x, "channels_first", dims=(3, 1, 2))
    return emission.call("Flatten", node, x, **LAST)


OPERATORS: dict[str, Rule] = {
    "conv": _conv,
    "relu": _layer("ReLU"),
    "relu6": _layer("ReLU", max_value=6.0),
    "max_pool": _pool("MaxPooling2D", _zeros_never_win),
    "avg_pool": _pool("AveragePooling2D", _zeros_weigh),
    "global_avg_pool": _layer("GlobalAveragePooling2D", keepdims=True, **LAST),
    "add": _add,
    "concat": _concat,
    "flatten": _flatten,
    "dense": _dense,
    "softmax": _layer("Softmax", axis=-1),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code of ``emit``."""
    return emit("emit_keras", ".keras or .h5", export_keras, arguments)


if __name__ == "__main__":
    sys.exit(main())
