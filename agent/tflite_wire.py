"""What a ``.tflite`` file says of itself, read from its flatbuffer without any library.

For the controller, which runs no such file, and for the measured child, whose interpreters tell
neither layouts nor whether a file was cut short (an old one then crashes). Field numbers from
TensorFlow's ``lite/schema/schema.fbs`` (schema 3); operators are named as there.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

IDENTIFIER = b"TFL3"
EDGETPU_OPERATOR = "edgetpu-custom-op"

DTYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool",
    7: "int16", 8: "complex64", 9: "int8", 10: "float64", 11: "complex128", 12: "uint64",
    15: "uint32", 16: "uint16", 17: "int4", 18: "bfloat16",
}  # fmt: skip
_OPERATORS = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D",
    5: "DEPTH_TO_SPACE", 6: "DEQUANTIZE", 9: "FULLY_CONNECTED", 12: "L2_POOL_2D", 14: "LOGISTIC",
    17: "MAX_POOL_2D", 18: "MUL", 19: "RELU", 20: "RELU_N1_TO_1", 21: "RELU6", 22: "RESHAPE",
    23: "RESIZE_BILINEAR", 25: "SOFTMAX", 26: "SPACE_TO_DEPTH", 28: "TANH", 34: "PAD",
    39: "TRANSPOSE", 40: "MEAN", 41: "SUB", 42: "DIV", 53: "CAST", 54: "PRELU", 55: "MAXIMUM",
    57: "MINIMUM", 60: "PADV2", 67: "TRANSPOSE_CONV", 97: "RESIZE_NEAREST_NEIGHBOR",
    98: "LEAKY_RELU", 100: "MIRROR_PAD", 114: "QUANTIZE", 117: "HARD_SWISH", 119: "WHILE",
    126: "BATCH_MATMUL", 150: "GELU",
}  # fmt: skip
_CUSTOM = 32

SHORT_BYTES = 64

Table = int
"""Where a table starts, in bytes from the file's start."""


class NotTflite(ValueError):
    """The bytes are no TFLite flatbuffer, or end early; the message says where."""


@dataclass(frozen=True)
class Tensor:
    """``shape`` holds -1 where a dimension is free. ``constant_bytes``: of its value in the file, 0
    where it has none; ``constant`` is that value if it is short, such as a permutation."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    constant_bytes: int
    constant: bytes


@dataclass(frozen=True)
class Operator:
    """``name`` as in the schema, a custom operator's own, or ``BUILTIN_n`` for one that needs no
    name here. ``inputs`` may hold -1 for one left out."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class TfliteFile:
    """The main graph. ``input_names``, ``output_names``: the signature's for these tensors, where
    the file has one; they are its author's, while tensors are named by converters."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]


def read(path: Path) -> TfliteFile:
    """Every table of the main graph, each checked to lie inside the file.

    Raises:
        NotTflite: no such file format, damaged or cut short.
        OSError: it cannot be read.
    """
    with open(str(path), "rb") as file:
        if file.read(8)[4:] != IDENTIFIER:
            raise NotTflite("it does not start as a TFLite flatbuffer (no identifier TFL3)")
        # Mapped: the weights stay unread, for this process's memory is measured.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _model(_Reader(data))
    except (struct.error, IndexError, OverflowError) as error:
        raise NotTflite(f"a table points outside of the file: {error}") from error
    finally:
        data.close()


class _Reader:
    """Scalars, tables and vectors by offset; ``struct.error`` or ``NotTflite`` past the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data

    def number(self, form: str, at: int) -> int:
        if at < 0:
            raise NotTflite("an offset is negative")
        return int(struct.unpack_from("<" + form, self.data, at)[0])

    def root(self) -> Table:
        return self.number("I", 0)

    def field(self, table: Table, index: int) -> int:
        """Where field ``index`` of a table lies; 0: it is absent."""
        vtable = table - self.number("i", table)
        if 4 + 2 * index >= self.number("H", vtable):
            return 0
        offset = self.number("H", vtable + 4 + 2 * index)
        return table + offset if offset else 0

    def scalar(self, table: Table, index: int, form: str, default: int = 0) -> int:
        at = self.field(table, index)
        return self.number(form, at) if at else default

    def pointed(self, table: Table, index: int) -> int:
        at = self.field(table, index)
        return at + self.number("I", at) if at else 0

    def vector(self, table: Table, index: int, size: int) -> tuple[int, int]:
        """Start of the first element and how many there are, all inside the file."""
        at = self.pointed(table, index)
        if not at:
            return 0, 0
        count = self.number("I", at)
        if at + 4 + count * size > len(self.data):
            raise NotTflite(f"the file ends inside a vector of {count} elements")
        return at + 4, count

    def numbers(self, table: Table, index: int, form: str) -> tuple[int, ...]:
        start, count = self.vector(table, index, struct.calcsize("<" + form))
        return struct.unpack_from(f"<{count}{form}", self.data, start) if count else ()

    def text(self, table: Table, index: int) -> str:
        start, count = self.vector(table, index, 1)
        return self.data[start : start + count].decode("utf-8", "replace")

    def tables(self, table: Table, index: int) -> list[Table]:
        start, count = self.vector(table, index, 4)
        places = (start + 4 * n for n in range(count))
        return [at + self.number("I", at) for at in places]


def _model(reader: _Reader) -> TfliteFile:
    root = reader.root()
    version = reader.scalar(root, 0, "I")
    if version != 3:
        raise NotTflite(f"schema {version}; only schema 3 is known")
    graphs = reader.tables(root, 2)
    if not graphs:
        raise NotTflite("it holds no graph")
    buffers = [_buffer(reader, table) for table in reader.tables(root, 4)]
    codes = [_operator_name(reader, table) for table in reader.tables(root, 1)]
    main = graphs[0]
    tensors = tuple(_tensor(reader, t, buffers) for t in reader.tables(main, 0))
    operators = tuple(
        Operator(
            codes[reader.scalar(table, 0, "I")],
            reader.numbers(table, 1, "i"),
            reader.numbers(table, 2, "i"),
        )
        for table in reader.tables(main, 3)
    )
    inputs, outputs = reader.numbers(main, 1, "i"), reader.numbers(main, 2, "i")
    used = [*inputs, *outputs, *(n for op in operators for n in (*op.inputs, *op.outputs))]
    if not inputs or not outputs or not operators:
        raise NotTflite("its graph has no inputs, no outputs or no operators")
    if not all(-1 <= n < len(tensors) for n in used) or min(*inputs, *outputs, 0) < 0:
        raise NotTflite("an operator names a tensor that is not there")
    named_in, named_out = _signature(reader, root)
    return TfliteFile(
        tensors,
        operators,
        inputs,
        outputs,
        tuple(named_in[n] for n in inputs) if set(inputs) <= set(named_in) else (),
        tuple(named_out[n] for n in outputs) if set(outputs) <= set(named_out) else (),
    )


def _buffer(reader: _Reader, table: Table) -> tuple[int, int]:
    start, size = reader.scalar(table, 1, "Q"), reader.scalar(table, 2, "Q")
    if start + size > len(reader.data):  # weights laid behind the flatbuffer, for files over 2 GiB
        raise NotTflite("the file ends inside its weights")
    return (start, size) if start > 1 else reader.vector(table, 0, 1)


def _operator_name(reader: _Reader, table: Table) -> str:
    code = max(reader.scalar(table, 0, "b"), reader.scalar(table, 3, "i"))
    if code == _CUSTOM:
        return reader.text(table, 1) or "CUSTOM"
    return _OPERATORS.get(code, f"BUILTIN_{code}")


def _tensor(reader: _Reader, table: Table, buffers: list[tuple[int, int]]) -> Tensor:
    shape = reader.numbers(table, 7, "i") or reader.numbers(table, 0, "i")
    kind = reader.scalar(table, 1, "b")
    start, size = buffers[reader.scalar(table, 2, "I")]
    return Tensor(
        name=reader.text(table, 3),
        dtype=DTYPES.get(kind, f"type {kind}"),
        shape=shape,
        constant_bytes=size,
        constant=reader.data[start : start + size] if size <= SHORT_BYTES else b"",
    )


def _signature(reader: _Reader, root: Table) -> tuple[dict[int, str], dict[int, str]]:
    for table in reader.tables(root, 7):
        if reader.scalar(table, 4, "I") == 0:
            inputs, outputs = (
                {reader.scalar(m, 1, "I"): reader.text(m, 0) for m in reader.tables(table, field)}
                for field in (0, 1)
            )
            return inputs, outputs
    return {}, {}
