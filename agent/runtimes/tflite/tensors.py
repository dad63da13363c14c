"""Maps a model's registered inputs and outputs to the tensors of a TFLite file: names, layouts,
quantised values.

All of it happens in ``bind`` and ``read``, outside of the timed region, and the session's placement
names every step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from agent.contract.failures import UnsupportedFormat, UnsupportedShape
from agent.contract.trial import TensorSpec
from agent.formats.layouts import ORDER
from agent.formats.tflite import TfliteFile, TfliteTensor
from agent.formats.tflite_analysis import input_layout, output_layout
from agent.runtimes.validation import fits, require_shapes, shown

Array = Any
Axes = Optional[Tuple[int, ...]]

_WORDS: Dict[Tuple[int, ...], str] = {axes: "%s to %s" % layouts for layouts, axes in ORDER.items()}


class TflitePort(NamedTuple):
    """One input or output.

    Attributes:
        tensor: the interpreter's index of it.
        spec: as the caller sees it.
        dtype: the element type in the file.
        axes: the transposition towards the file (inputs) or towards the caller (outputs).
        scale: 0: not quantised; else a stored value q means (q - ``zero``)·``scale``.
    """

    tensor: int
    spec: TensorSpec
    dtype: str
    axes: Axes
    scale: float
    zero: int

    def stored(self, array: Array) -> Array:
        """What the file's tensor holds for the caller's ``array``.

        Raises:
            UnsupportedShape: an integer that the file's type cannot hold.
        """
        if self.axes:
            array = array.transpose(self.axes)
        if array.dtype == self.dtype:
            return array
        limits = np.iinfo(self.dtype) if np.dtype(self.dtype).kind in "iu" else None
        if self.scale and limits:
            steps = np.round(array.astype(np.float64) / self.scale) + self.zero
            return np.clip(steps, limits.min, limits.max).astype(self.dtype)
        if limits and array.size and not limits.min <= array.min() <= array.max() <= limits.max:
            raise UnsupportedShape(
                "input %s: the file takes %s, too small for values from %s to %s"
                % (self.spec.name, self.dtype, array.min(), array.max())
            )
        return array.astype(self.dtype)

    def real(self, array: Array) -> Array:
        """The file's output ``array`` in the caller's axes and values."""
        if self.scale:
            array = ((array.astype(np.float32) - self.zero) * np.float32(self.scale)).astype(
                np.float32
            )
        return np.ascontiguousarray(array.transpose(self.axes)) if self.axes else array

    def step(self) -> str:
        """What ``stored`` or ``real`` does, for people; empty: nothing."""
        steps = [_WORDS[self.axes]] if self.axes else []
        if self.spec.dtype != self.dtype:
            how = " (scale %.4g, zero point %d)" % (self.scale, self.zero) if self.scale else ""
            steps.append("%s stored as %s%s" % (self.spec.dtype, self.dtype, how))
        return "%s %s" % (self.spec.name, ", ".join(steps)) if steps else ""


def input_ports(
    graph: TfliteFile,
    details: Sequence[Any],
    wanted: Sequence[TensorSpec],
    layouts: Mapping[int, str],
) -> Tuple[TflitePort, ...]:
    """A port for each input of the file, in its order, with the caller's specs ``wanted``, or its
    own.

    Args:
        layouts: tensor → its layout, where another source than the graph tells.

    Raises:
        UnsupportedShape: shapes or layouts do not match; says which, and what is unknown.
        UnsupportedFormat: an element type that NumPy does not have.
    """
    own = [
        _spec(graph.tensors[t], name, input_layout(graph, t) or layouts.get(t, ""))
        for t, name in zip(graph.inputs, _names(graph, False))  # noqa: B905 - newer than 3.8
    ]
    if not wanted:
        return tuple(_port(d, spec, spec, None) for d, spec in zip(details, own))  # noqa: B905
    ordered = _in_order(graph, own, wanted)
    if ordered is None:
        require_shapes(wanted, own)  # raises, their number differs
        ordered = []
    return tuple(
        _port(detail, spec, stored, _axes(spec, stored))
        for detail, spec, stored in zip(details, ordered, own)  # noqa: B905
    )


def output_ports(
    graph: TfliteFile,
    details: Sequence[Any],
    inputs: Sequence[TflitePort],
    layouts: Mapping[int, str],
) -> Tuple[TflitePort, ...]:
    """A port for each output of the file. If inputs are transposed from NCHW, the caller's network
    is NCHW: an output known to be NHWC is then transposed back."""
    channels_first = any(port.axes == ORDER["NCHW", "NHWC"] for port in inputs)
    found = []
    for detail, tensor, name in zip(details, graph.outputs, _names(graph, True)):  # noqa: B905
        layout = output_layout(graph, tensor) or layouts.get(tensor, "")
        stored = _spec(graph.tensors[tensor], name, layout)
        axes = ORDER["NHWC", "NCHW"] if channels_first and stored.layout == "NHWC" else None
        seen = stored
        if axes:
            seen = replace(stored, shape=tuple(stored.shape[a] for a in axes), layout="NCHW")
        port = _port(detail, seen, stored, axes)
        if port.scale:
            port = port._replace(spec=replace(seen, dtype="float32"))
        found.append(port)
    return tuple(found)


def _names(graph: TfliteFile, outputs: bool) -> List[str]:
    """The author's names, which are the signature's; else those of the tensors."""
    signed = graph.output_names if outputs else graph.input_names
    tensors = graph.outputs if outputs else graph.inputs
    return list(signed) or [graph.tensors[t].name for t in tensors]


def _in_order(
    graph: TfliteFile, own: Sequence[TensorSpec], wanted: Sequence[TensorSpec]
) -> Optional[List[TensorSpec]]:
    """``wanted`` in the file's order, matched by the signature's names, by the tensors' names, or
    by these without what converters add; in the given order where no names match. ``None``: their
    number differs."""
    by_name = {spec.name: spec for spec in wanted}
    tensors = [graph.tensors[t].name for t in graph.inputs]
    plain = [_plain(name) for name in tensors]
    for names in ([spec.name for spec in own], tensors, plain):
        if len(set(names)) == len(names) and set(names) == set(by_name):
            return [by_name[name] for name in names]
    return list(wanted) if len(wanted) == len(own) else None


def _plain(name: str) -> str:
    name = name.split(":")[0]
    return name[len("serving_default_") :] if name.startswith("serving_default_") else name


def _spec(tensor: TfliteTensor, name: str, layout: str) -> TensorSpec:
    if not hasattr(np, tensor.dtype) and tensor.dtype != "bool":
        raise UnsupportedFormat("tensor %s has element type %s" % (name, tensor.dtype))
    return TensorSpec(name, tensor.dtype, tensor.shape, layout)


def _axes(wanted: TensorSpec, stored: TensorSpec) -> Axes:
    """How the caller's input is transposed for the file: by their layouts, never by their shapes.

    Raises:
        UnsupportedShape: the shapes do not match after it.
    """
    axes = ORDER.get((wanted.layout, stored.layout))
    shape = (
        tuple(wanted.shape[a] for a in axes) if axes and len(wanted.shape) == 4 else wanted.shape
    )
    if fits(shape, stored.shape):
        return axes
    if len(wanted.shape) == 4 and not axes:
        for order in ORDER.values():
            if fits([wanted.shape[a] for a in order], stored.shape):
                raise UnsupportedShape(_layout_unknown(wanted, stored))
    raise UnsupportedShape(
        "input %s: the model takes %s, asked for %s"
        % (wanted.name, shown(stored.shape), shown(wanted.shape))
    )


def _layout_unknown(wanted: TensorSpec, stored: TensorSpec) -> str:
    return (
        "input %s: the file takes %s (layout %s), asked for %s (layout %s): one may be the other"
        " transposed, but that is not guessed; it is done where both layouts follow from what the"
        " input leads to (a convolution, a pool, a resize)"
        % (
            wanted.name,
            shown(stored.shape),
            stored.layout or "unknown",
            shown(wanted.shape),
            wanted.layout or "unknown",
        )
    )


def _port(detail: Any, spec: TensorSpec, stored: TensorSpec, axes: Axes) -> TflitePort:
    """Raises ``UnsupportedShape`` where the element types do not match."""
    scale, zero = detail["quantization"]
    kinds = np.dtype(spec.dtype).kind, np.dtype(stored.dtype).kind
    integers = all(kind in "iu" for kind in kinds)
    fine = spec.dtype == stored.dtype or integers or kinds == ("f", "f")
    if not fine and not (scale and kinds[0] == "f"):
        raise UnsupportedShape(
            "input %s: the file takes %s, asked for %s" % (spec.name, stored.dtype, spec.dtype)
        )
    return TflitePort(int(detail["index"]), spec, stored.dtype, axes, float(scale), int(zero))
