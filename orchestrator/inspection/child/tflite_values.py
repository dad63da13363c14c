"""Which values the inputs of a TFLite file can take: the users of each tensor, for
``agent.formats.value_ranges``."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from agent.contract.input_values import InputValues
from agent.contract.trial import TensorSpec
from agent.formats import tflite
from agent.formats.value_ranges import Passed, Wanted, input_values

_SAME = frozenset(
    [
        "ABS", "BROADCAST_TO", "CAST", "CEIL", "DEPTH_TO_SPACE", "DEQUANTIZE", "EXPAND_DIMS",
        "FLOOR", "GATHER", "GATHER_ND", "MAX_POOL_2D", "PAD", "QUANTIZE", "REDUCE_MAX",
        "REDUCE_MIN", "RELU", "RESHAPE", "REVERSE_V2", "ROUND", "SLICE", "SPACE_TO_DEPTH",
        "SQUEEZE", "STRIDED_SLICE", "TILE", "TRANSPOSE", "UNPACK",
    ]
)  # fmt: skip
"""Operators whose outputs hold values of their first input."""
_ANY = frozenset(["CONCATENATION", "MAXIMUM", "PACK", "SELECT", "SELECT_V2"])
_TABLES = {("GATHER", 1): 0, ("EMBEDDING_LOOKUP", 0): 1, ("HASHTABLE_LOOKUP", 0): 2}
"""(operator, place of the indices) → place of the table."""
_NUMBERS = {"int32": "i", "int64": "q", "float32": "f"}


def read(path: Path) -> dict[str, InputValues]:
    """Input → what its values must be, under the signature's name of the input and the tensor's;
    inputs of which no operator tells are left out."""
    file = tflite.read(path)
    uses = TfliteUses(file)
    found = {}
    for place, index in enumerate(file.inputs):
        tensor = file.tensors[index]
        spec = TensorSpec(tensor.name, tensor.dtype, tensor.shape)
        known = input_values(spec, index, uses)
        if known is not None:
            name = file.input_names[place] if file.input_names else tensor.name
            found[name] = known
    return found


class TfliteUses:
    """The users of each tensor of the main graph."""

    def __init__(self, file: tflite.TfliteFile) -> None:
        self._file = file
        self._users: dict[int, list[tuple[tflite.TfliteOperator, int]]] = {}
        for operator in file.operators:
            for place, index in enumerate(operator.inputs):
                self._users.setdefault(index, []).append((operator, place))

    def __call__(self, tensor: int) -> Iterator[Passed | Wanted]:
        for operator, place in self._users.get(tensor, ()):
            name = operator.name
            yield from self._wanted(operator, place)
            if (name in _SAME and place == 0) or name in _ANY:
                yield from (Passed(index) for index in operator.outputs)
            elif name in ("ADD", "SUB", "MUL"):
                yield from self._changed(operator, place)

    def _wanted(self, operator: tflite.TfliteOperator, place: int) -> Iterator[Wanted]:
        name = operator.name
        table = _TABLES.get((name, place))
        if table is not None and table < len(operator.inputs):
            of = self._file.tensors[operator.inputs[table]]
            axis = dict(operator.options).get("axis", 0)
            rows = of.shape[axis] if -len(of.shape) <= axis < len(of.shape) else 0
            if rows > 0:
                yield Wanted(0, rows - 1, f"rows of {of.name!r}, which {name} reads")
        elif name == "GATHER_ND" and place == 1:
            data = self._file.tensors[operator.inputs[0]].shape
            depth = self._file.tensors[operator.inputs[1]].shape[-1:]
            sizes = data[: depth[0]] if depth and depth[0] > 0 else ()
            if sizes and min(sizes) > 0:
                yield Wanted(0, min(sizes) - 1, f"coordinates that {name} takes")
        elif name == "ONE_HOT" and place == 0:
            depth_of = self._constant(operator.inputs[1])
            if depth_of and depth_of[0] >= 1:
                yield Wanted(0, depth_of[0] - 1, f"classes of ONE_HOT, depth {depth_of[0]:g}")

    def _changed(self, operator: tflite.TfliteOperator, place: int) -> Iterator[Passed]:
        other = self._constant(operator.inputs[1 - place])
        if not other:
            return
        low, high = min(other), max(other)
        if operator.name == "MUL":
            if low == high and low:
                yield Passed(operator.outputs[0], low)
        elif operator.name == "ADD":
            yield Passed(operator.outputs[0], 1.0, (low, high))
        elif place == 0:
            yield Passed(operator.outputs[0], 1.0, (-high, -low))
        else:
            yield Passed(operator.outputs[0], -1.0, (low, high))

    def _constant(self, index: int) -> tuple[float, ...]:
        """A short constant's values; empty: it is computed, or long."""
        tensor = self._file.tensors[index] if index >= 0 else None
        if tensor is None or tensor.dtype not in _NUMBERS or not tensor.constant:
            return ()
        form = _NUMBERS[tensor.dtype]
        count = len(tensor.constant) // struct.calcsize(f"<{form}")
        return struct.unpack(f"<{count}{form}", tensor.constant[: count * struct.calcsize(form)])
