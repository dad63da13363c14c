"""What ONNX operators want of the inputs that are indices, shapes, lengths or axes.

An input that decides a shape gets one value, so that all feeds cost the same: the value that
changes its operator's data least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import TYPE_CHECKING, Any

from agent.formats.value_ranges import Wanted

if TYPE_CHECKING:
    from orchestrator.inspection.child.onnx_values import OnnxUses

Rule = Callable[["OnnxUses", Any], Iterator[Wanted]]


def _attribute(node: Any, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _size(shape: tuple[int, ...] | None, axis: int) -> int:
    """The size of an axis; 0: unknown."""
    if not shape or not -len(shape) <= axis < len(shape):
        return 0
    return max(shape[axis], 0)


def _rows(table: int, axis: int | None = 0) -> Rule:
    """Indices along an axis of input ``table``; ``None``: the attribute ``axis`` tells which."""

    def rule(uses: OnnxUses, node: Any) -> Iterator[Wanted]:
        if table >= len(node.input):
            return
        along = _attribute(node, "axis", 0) if axis is None else axis
        size = _size(uses.shape(node.input[table]), along)
        if size:
            yield Wanted(0, size - 1, f"rows of {node.input[table]!r}, which {node.op_type} reads")

    return rule


def _coordinates(uses: OnnxUses, node: Any) -> Iterator[Wanted]:
    """GatherND and ScatterND: the last axis of the indices holds one index an axis of the data."""
    data, indices = uses.shape(node.input[0]), uses.shape(node.input[1])
    depth, batch = _size(indices, -1), _attribute(node, "batch_dims", 0)
    sizes = (data or ())[batch : batch + depth]
    if sizes and min(sizes) > 0:
        why = f"coordinates in {node.input[0]!r}, which {node.op_type} takes"
        yield Wanted(0, min(sizes) - 1, why)


def _classes(uses: OnnxUses, node: Any) -> Iterator[Wanted]:
    depth = uses.value(node.input[1])
    if depth is not None and depth.size == 1 and int(depth.reshape(())) > 0:
        count = int(depth.reshape(()))
        yield Wanted(0, count - 1, f"classes of OneHot, depth {count}")


def _lengths(sequence: int, axis: int) -> Rule:
    """Lengths of sequences that lie along ``axis`` of input ``sequence``."""

    def rule(uses: OnnxUses, node: Any) -> Iterator[Wanted]:
        along = _attribute(node, "time_axis", axis)
        if node.op_type in ("RNN", "LSTM", "GRU") and _attribute(node, "layout", 0):
            along = 1
        size = _size(uses.shape(node.input[sequence]), along)
        if size:
            yield Wanted(1, size, f"lengths of the sequences of {node.op_type}")

    return rule


def _fixed(values: Callable[[OnnxUses, Any], tuple[float, ...] | None], why: str) -> Rule:
    def rule(uses: OnnxUses, node: Any) -> Iterator[Wanted]:
        found = values(uses, node)
        if found:
            yield Wanted(fixed=found, why=f"{why} of {node.op_type}")

    return rule


def _elements(uses: OnnxUses, node: Any, place: int) -> int:
    """The number of elements of a one-dimensional input; 0: unknown."""
    shape = uses.shape(node.input[place])
    return shape[0] if shape and len(shape) == 1 and shape[0] > 0 else 0


def _same_shape(uses: OnnxUses, node: Any) -> tuple[float, ...] | None:
    """The sizes that the file declares for the output, else the data's own, filled with ones."""
    rank = _elements(uses, node, 1)
    data = uses.shape(node.input[0])
    declared = uses.sizes_of_output(node.output[0])
    if declared and len(declared) == rank:
        return declared
    if not rank or data is None or not all(size > 0 for size in data):
        return None
    if len(data) == rank:
        return data
    if node.op_type == "Expand":
        return (1,) * (rank - len(data)) + data[-rank:] if rank > len(data) else (1,) * rank
    return (prod(data),) + (1,) * (rank - 1)


def _new_shape(uses: OnnxUses, node: Any) -> tuple[float, ...] | None:
    rank = _elements(uses, node, 0)
    declared = uses.sizes_of_output(node.output[0])
    return declared if declared and len(declared) == rank else (4,) * rank


def _resized(uses: OnnxUses, node: Any) -> tuple[float, ...] | None:
    data = uses.shape(node.input[0])
    declared = uses.sizes_of_output(node.output[0])
    found = declared or data
    place = next(n for n, name in enumerate(node.input) if n > 2 and name)
    fits = found and all(s > 0 for s in found) and len(found) == _elements(uses, node, place)
    return found if fits else None


def _always(value: float, why: str) -> Rule:
    """The same value for each element."""
    return _fixed(lambda _uses, _node: (value,), why)


def _counting(place: int) -> Rule:
    """The axes 0, 1, …"""
    return _fixed(lambda uses, node: tuple(range(max(_elements(uses, node, place), 1))), "the axes")


def _ends(uses: OnnxUses, node: Any) -> tuple[float, ...] | None:
    """Ends of Slice: the sizes of its axes, so that it takes all."""
    count, data = _elements(uses, node, 2), uses.shape(node.input[0])
    axes = uses.value(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    order = range(count) if axes is None else [int(a) for a in axes]
    sizes = tuple(_size(data, axis) for axis in order)
    return sizes if count == len(sizes) and all(sizes) else None


def _most(uses: OnnxUses, node: Any) -> tuple[float, ...] | None:
    size = _size(uses.shape(node.input[0]), _attribute(node, "axis", -1))
    return (min(size, 5),) if size else None


def _single_axes(uses: OnnxUses, node: Any) -> tuple[float, ...] | None:
    """Axes of size one, which Squeeze can drop."""
    data = uses.shape(node.input[0]) or ()
    found = tuple(n for n, size in enumerate(data) if size == 1)[: _elements(uses, node, 1) or 1]
    return found if len(found) == (_elements(uses, node, 1) or 1) else None


def _parts(uses: OnnxUses, node: Any) -> tuple[float, ...] | None:
    """Equal parts of Split, the last one with the rest."""
    size = _size(uses.shape(node.input[0]), _attribute(node, "axis", 0))
    count = _elements(uses, node, 1) or len(node.output)
    if size < count:
        return None
    return (size // count,) * (count - 1) + (size - size // count * (count - 1),)


def _mask(uses: OnnxUses, node: Any) -> Iterator[Wanted]:
    """The mask of Attention: 0 and 1, or one length a row."""
    shape = uses.shape(node.input[0])
    index = 3
    mask = uses.shape(node.input[index]) if len(node.input) > index else None
    if mask is not None and len(mask) == 1 and _size(shape, 1):
        yield Wanted(1, _size(shape, 1), f"lengths of the sequences of {node.op_type}")
    else:
        yield Wanted(0, 1, f"the mask of {node.op_type}")


def _between(low: float, high: float, why: str, weak: bool = False) -> Rule:
    def rule(_: OnnxUses, node: Any) -> Iterator[Wanted]:
        yield Wanted(low, high, f"{why} of {node.op_type}", weak=weak)

    return rule


_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
_EMBED = "EmbedLayerNormalization"

RULES: dict[tuple[str, int], Rule] = {
    ("Gather", 1): _rows(0, None),
    ("GatherElements", 1): _rows(0, None),
    ("ScatterElements", 1): _rows(0, None),
    ("Scatter", 1): _rows(0, None),
    ("GatherBlockQuantized", 1): _rows(0, None),
    ("TensorScatter", 2): _rows(0, -2),
    ("GatherND", 1): _coordinates,
    ("ScatterND", 1): _coordinates,
    ("ArrayFeatureExtractor", 1): _rows(0, -1),
    ("OneHot", 0): _classes,
    ("RotaryEmbedding", 1): _rows(2),
    ("RotaryEmbedding", 3): _rows(1),
    (_EMBED, 0): _rows(2),
    (_EMBED, 1): _rows(4),
    (_EMBED, 7): _between(0, 1, "the mask"),
    (_EMBED, 8): _rows(3),
    ("Attention", 3): _mask,
    ("RNN", 4): _lengths(0, 0),
    ("LSTM", 4): _lengths(0, 0),
    ("GRU", 4): _lengths(0, 0),
    ("ReverseSequence", 1): _lengths(0, 0),
    ("Reshape", 1): _fixed(_same_shape, "the shape"),
    ("Expand", 1): _fixed(_same_shape, "the shape"),
    ("CenterCropPad", 1): _fixed(_same_shape, "the shape"),
    ("ConstantOfShape", 0): _fixed(_new_shape, "the shape"),
    ("Resize", 2): _always(1.0, "the scales"),
    ("Resize", 3): _fixed(_resized, "the sizes"),
    ("Upsample", 1): _always(1.0, "the scales"),
    ("Tile", 1): _always(1, "the repeats"),
    ("Pad", 1): _always(1, "the pads"),
    ("Slice", 1): _always(0, "the starts"),
    ("Slice", 2): _fixed(_ends, "the ends"),
    ("Slice", 3): _counting(3),
    ("Slice", 4): _always(1, "the steps"),
    ("Range", 0): _always(0, "the start"),
    ("Range", 1): _always(8, "the limit"),
    ("Range", 2): _always(1, "the step"),
    ("TopK", 1): _fixed(_most, "the number"),
    ("OneHot", 1): _always(8, "the depth"),
    ("Squeeze", 1): _fixed(_single_axes, "the axes"),
    ("Unsqueeze", 1): _counting(1),
    ("Split", 1): _fixed(_parts, "the parts"),
    ("CumSum", 1): _always(0, "the axis"),
    ("Trilu", 1): _between(0, 1, "the diagonal"),
    ("Loop", 0): _always(4, "the number of rounds"),
    ("Loop", 1): _always(1, "the condition"),
    ("Dropout", 1): _always(0.5, "the ratio"),
    ("Dropout", 2): _always(0, "the training mode"),
    ("NonMaxSuppression", 2): _always(8, "the most boxes of a class"),
    ("NonMaxSuppression", 3): _always(0.5, "the overlap threshold"),
    ("NonMaxSuppression", 4): _always(0.0, "the score threshold"),
    ("BitShift", 1): _between(0, 7, "the places"),
    ("Div", 1): _between(1, 8, "the divisor", weak=True),
    ("Mod", 1): _between(1, 8, "the divisor", weak=True),
    **{(f"Reduce{kind}", 1): _counting(1) for kind in _REDUCTIONS},
    **{(f"{kind}Window", 0): _always(16, "the size") for kind in ("Blackman", "Hann", "Hamming")},
}
"""(operator, place of an input) → what is wanted of it."""
