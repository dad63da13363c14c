"""Which values the inputs of an ONNX file can take: the users of each tensor, for
``agent.formats.value_ranges``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from agent.contract.input_values import InputValues
from agent.contract.trial import TensorSpec
from agent.formats.value_ranges import MASKED, Passed, Wanted, input_values
from orchestrator.inspection.child import onnx_graph, onnx_shapes, onnx_wanted

Use = Passed | Wanted

_SAME = frozenset(
    [
        "Abs", "Cast", "CastLike", "Ceil", "CenterCropPad", "Clip", "Compress", "DepthToSpace",
        "Dropout", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Identity",
        "MaxPool", "Pad", "ReduceMax", "ReduceMin", "Relu", "Reshape", "ReverseSequence", "Round",
        "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Trilu", "Unique",
        "Unsqueeze",
    ]
)  # fmt: skip
"""Operators whose outputs hold values of their first input."""
_ANY = frozenset(["Concat", "Max", "Min"])
"""Operators whose output holds values of any input."""
_COMPARED = frozenset(["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
MOST_CONSTANT = 1 << 20


def of_model(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, InputValues]:
    """What operators say about the values of a model's inputs, whose shapes are ``shapes``; inputs
    of which none says anything are left out. The model is not modified."""
    from onnx import helper

    graph = OnnxUses(model, shapes)
    found = {}
    for value in model.graph.input:
        if value.name not in shapes:
            continue
        dtype = str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        spec = TensorSpec(value.name, dtype, shapes[value.name])
        known = input_values(spec, value.name, graph)
        if known is not None:
            found[value.name] = known
    return found


class OnnxUses:
    """The users of each tensor of a model and of its bodies (If, Loop, Scan), functions inlined.

    Names are unique over a graph and its bodies, as ONNX demands, so one table holds all.
    """

    def __init__(self, model: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
        light = onnx_graph.prepared(model, shapes)
        self.types = onnx_shapes.infer(light)
        self._constants: dict[str, Any] = {}
        self._users: dict[str, list[tuple[Any, int]]] = {}
        self._makers: dict[str, Any] = {}
        self._passed: dict[str, list[str]] = {}
        self._returned = {o.name: o for o in light.graph.output}
        self._read(light.graph)
        for weight in model.graph.initializer:  # large ones too: a table of offsets
            self._constants.setdefault(weight.name, weight)

    def _read(self, graph: Any) -> None:
        self._constants.update({i.name: i for i in graph.initializer})
        for node in graph.node:
            for place, name in enumerate(node.input):
                self._users.setdefault(name, []).append((node, place))
            self._makers.update(dict.fromkeys(node.output, node))
            for attribute in node.attribute:
                for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                    self._read(body)
                    self._enter(node, body)

    def _enter(self, node: Any, body: Any) -> None:
        """What goes into a body, and what comes out of it."""
        first = 2 if node.op_type == "Loop" else 0
        if node.op_type in ("Loop", "Scan"):
            pairs = zip(node.input[first:], body.input[first:], strict=False)
            for outer, inner in pairs:
                self._passed.setdefault(outer, []).append(inner.name)
        skip = 1 if node.op_type == "Loop" else 0  # the condition
        for inner, outer in zip(body.output[skip:], node.output, strict=False):
            self._passed.setdefault(inner.name, []).append(outer)

    def __call__(self, tensor: str) -> Iterator[Use]:
        for name in self._passed.get(tensor, ()):
            yield Passed(name)
        for node, place in self._users.get(tensor, ()):
            rule = onnx_wanted.RULES.get((node.op_type, place))
            if rule is not None:
                yield from rule(self, node)
            yield from self._handed_on(node, place)

    def _handed_on(self, node: Any, place: int) -> Iterator[Use]:
        kind = node.op_type
        if kind == "Cast" and _attribute(node, "to") == 9:
            yield Wanted(0, 1, "made a boolean by Cast", weak=True)
        elif (kind in _SAME and place == 0) or kind in _ANY or (kind == "Where" and place > 0):
            if not self._bounded(node, place):
                yield from (Passed(name) for name in node.output[:1])
                if kind == "Split":
                    yield from (Passed(name) for name in node.output[1:])
        elif kind in _COMPARED:
            yield from self._compared(node, place)
        elif kind in _ARITHMETIC:
            yield from _ARITHMETIC[kind](self, node, place)

    def _bounded(self, node: Any, place: int) -> bool:
        """Whether a Clip or Min with a constant makes any value a valid one."""
        if node.op_type == "Clip":
            return len(node.input) > 2 or _attribute(node, "max") is not None
        others = [name for n, name in enumerate(node.input) if n != place]
        return node.op_type == "Min" and any(self.value(name) is not None for name in others)

    def _compared(self, node: Any, place: int) -> Iterator[Use]:
        """A comparison with a constant: values on both sides of it."""
        other = self.value(node.input[1 - place])
        if other is not None and other.size:
            high = max(1.0, float(np.max(other)) + (0 if node.op_type == "Equal" else 1))
            if np.isfinite(high) and high < 2**31:
                yield Wanted(
                    0, high, f"compared with {np.max(other):g} by {node.op_type}", weak=True
                )

    def shape(self, name: str) -> tuple[int, ...] | None:
        """A tensor's shape with -1 for an unknown size; ``None``: of no known rank."""
        if name in self.types and onnx_shapes.shape(self.types[name]) is not None:
            return onnx_shapes.shape(self.types[name])
        if name in self._constants:
            return tuple(self._constants[name].dims)
        made = self._makers.get(name)
        if made is not None and made.op_type == "Constant":
            value = self.value(name)
            return None if value is None else value.shape
        return self.shape(made.input[0]) if made is not None and made.op_type in _ALIKE else None

    def sizes_of_output(self, name: str) -> tuple[int, ...] | None:
        """The sizes that the file itself declares for an output; ``None``: it is none, or a size is
        free."""
        found = self._returned.get(name)
        shape = None if found is None else onnx_shapes.shape(found.type)
        return shape if shape is not None and all(size > 0 for size in shape) else None

    def value(self, name: str) -> Any:
        """The value of a constant as an array; ``None``: it is computed, or large."""
        from onnx import numpy_helper

        for _ in range(8):
            if name in self._constants:
                tensor = self._constants[name]
                if np.prod(tensor.dims, dtype=np.int64) > MOST_CONSTANT:
                    return None
                return numpy_helper.to_array(tensor)
            made = self._makers.get(name)
            if made is None:
                return None
            if made.op_type == "Constant":
                return _constant(made)
            if made.op_type not in _ALIKE or not made.input:
                return None
            name = made.input[0]
        return None


_ALIKE = ("Cast", "CastLike", "Identity", "DequantizeLinear")
"""Operators whose output has the shape, and for small whole numbers the values, of their input."""


def _constant(node: Any) -> Any:
    from onnx import helper, numpy_helper

    value = helper.get_attribute_value(node.attribute[0])
    if node.attribute[0].name == "value":
        return numpy_helper.to_array(value)
    if node.attribute[0].name.startswith(("value_int", "value_float")):
        return np.asarray(value)
    return None


def _attribute(node: Any, name: str) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)


def _added(uses: OnnxUses, node: Any, place: int) -> Iterator[Use]:
    name = node.input[1 - place]
    other = uses.value(name)
    sign = -1.0 if node.op_type == "Sub" else 1.0
    if other is None:
        # two computed parts of one index: half of the range for each is always valid
        yield Passed(node.output[0], 2.0) if sign > 0 else Passed(node.output[0])
    elif other.size:
        low, high = float(np.min(other)), float(np.max(other))
        if place == 0:
            offset = (low, high) if sign > 0 else (-high, -low)
            yield Passed(node.output[0], 1.0, offset)
        else:
            yield Passed(node.output[0], sign, (low, high))


def _multiplied(uses: OnnxUses, node: Any, place: int) -> Iterator[Use]:
    other = uses.value(node.input[1 - place])
    if other is None or other.size != 1 or (node.op_type == "Div" and place == 1):
        return
    factor = float(other.reshape(()))
    if node.op_type == "Mul" and abs(factor) >= MASKED:
        yield Wanted(0, 1, f"a mask: Mul by {factor:g}", weak=factor > 0)
    elif factor and np.isfinite(factor):
        yield Passed(node.output[0], factor if node.op_type == "Mul" else 1.0 / factor)


def _negated(_: OnnxUses, node: Any, __: int) -> Iterator[Use]:
    yield Passed(node.output[0], -1.0)


def _summed(uses: OnnxUses, node: Any, place: int) -> Iterator[Use]:
    shape = uses.shape(node.input[0])
    if place == 0 and shape and max(shape) > 0:
        yield Passed(node.output[0], float(max(shape)))


_ARITHMETIC: dict[str, Callable[[OnnxUses, Any, int], Iterator[Use]]] = {
    "Add": _added,
    "Sub": _added,
    "Mul": _multiplied,
    "Div": _multiplied,
    "Neg": _negated,
    "CumSum": _summed,
}
