"""A parser of ``.tflite`` files: tensors, operators and signature of the main graph.

It serves the controller, which runs no such file, and the measured child, because the interpreters
tell neither layouts nor that a file is truncated (older ones crash on it). Field numbers and names
of operators are those of TensorFlow's ``lite/schema/schema.fbs``, schema 3.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from agent.contract.failures import BadModel

IDENTIFIER = b"TFL3"
EDGETPU_OPERATOR = "edgetpu-custom-op"

DTYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool",
    7: "int16", 8: "complex64", 9: "int8", 10: "float64", 11: "complex128", 12: "uint64",
    15: "uint32", 16: "uint16", 17: "int4", 18: "bfloat16",
}  # fmt: skip
_NAMES = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
    EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
    LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU
    RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH
    CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD
    UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB
    DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP
    TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX
    MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV
    SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN
    FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK
    REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE
    RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL
    REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE
    MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5
    SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES
    CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE
    HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE
    READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE
    RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD
    UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST
    BITWISE_XOR RIGHT_SHIFT
"""
OPERATORS = tuple(_NAMES.split())
"""By operator code, up to release 2.21; the StableHLO operators that follow are for compilers."""
_CUSTOM = 32

_PLACE = {"padding": (0, "b", 0), "stride_w": (1, "i", 0), "stride_h": (2, "i", 0)}
_OPTIONS: dict[str, tuple[int, dict[str, tuple[int, str, int]]]] = {
    "CONV_2D": (1, {
        **_PLACE, "activation": (3, "b", 0), "dilation_w": (4, "i", 1), "dilation_h": (5, "i", 1),
    }),
    "DEPTHWISE_CONV_2D": (2, {
        **_PLACE, "multiplier": (3, "i", 0), "activation": (4, "b", 0),
        "dilation_w": (5, "i", 1), "dilation_h": (6, "i", 1),
    }),
    "AVERAGE_POOL_2D": (5, {
        **_PLACE, "kernel_w": (3, "i", 0), "kernel_h": (4, "i", 0), "activation": (5, "b", 0),
    }),
    "FULLY_CONNECTED": (8, {"activation": (0, "b", 0)}),
    "CONCATENATION": (10, {"axis": (0, "i", 0), "activation": (1, "b", 0)}),
    "ADD": (11, {"activation": (0, "b", 0)}),
    "GATHER": (23, {"axis": (0, "i", 0)}),
    "TRANSPOSE_CONV": (49, _PLACE),
    "BATCH_MATMUL": (101, {"adj_x": (0, "b", 0), "adj_y": (1, "b", 0)}),
}  # fmt: skip
_OPTIONS["MAX_POOL_2D"] = _OPTIONS["AVERAGE_POOL_2D"]
"""Operator → (type of its options in the union, option → (field, struct format, default))."""

SHORT_BYTES = 64

Table = int
"""Where a table starts, in bytes from the file's start."""


class NotTflite(ValueError):
    """Not a TFLite flatbuffer, or a damaged one; the message says where it ends or contradicts."""


@dataclass(frozen=True)
class TfliteTensor:
    """A tensor. ``shape`` holds -1 where a dimension is free. ``constant_bytes`` is the size of its
    value in the file, 0 where it has none; ``constant`` that value where it is short, such as a
    permutation."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    constant_bytes: int
    constant: bytes


@dataclass(frozen=True)
class TfliteOperator:
    """An operator. ``name`` is the schema's, or a custom operator's own, or ``BUILTIN_n`` where
    ``OPERATORS`` has none. ``inputs`` holds -1 for an omitted one. ``options`` are read for the
    operators in ``_OPTIONS``."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class TfliteFile:
    """The main graph. ``input_names`` and ``output_names`` are those of the signature, empty where
    the file has none: they are the author's, while converters name the tensors."""

    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]


def read_model(artifact: Path) -> TfliteFile:
    """``read`` of a user's file. Raises ``BadModel``: no TFLite file, or a damaged one."""
    try:
        return read(artifact)
    except FileNotFoundError as error:
        raise BadModel("%s does not exist" % artifact.name) from error
    except NotTflite as error:
        raise BadModel("%s is not a TFLite model: %s" % (artifact.name, error)) from error


def read(path: Path) -> TfliteFile:
    """The main graph; every table is checked to lie inside the file.

    Raises:
        NotTflite: another format, damaged or truncated.
        OSError: it cannot be read.
    """
    with open(str(path), "rb") as file:
        if file.read(8)[4:] != IDENTIFIER:
            raise NotTflite("it does not start as a TFLite flatbuffer (no identifier TFL3)")
        # Mapped, so that weights are not read: the memory of this process is measured.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _model(_Reader(data))
    except (struct.error, IndexError, OverflowError) as error:
        raise NotTflite(f"a table points outside of the file: {error}") from error
    finally:
        data.close()


class _Reader:
    """Reads scalars, tables and vectors by offset.

    Raises:
        struct.error, NotTflite: outside of the file.
    """

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data

    def number(self, form: str, at: int) -> int:
        if at < 0:
            raise NotTflite("an offset is negative")
        return int(struct.unpack_from("<" + form, self.data, at)[0])

    def root(self) -> Table:
        return self.number("I", 0)

    def field(self, table: Table, index: int) -> int:
        """Offset of field ``index`` of a table; 0: it is absent."""
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
        """Offset of the first element, and the number of elements; all lie inside the file."""
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
        TfliteOperator(
            codes[reader.scalar(table, 0, "I")],
            reader.numbers(table, 1, "i"),
            reader.numbers(table, 2, "i"),
            _options(reader, table, codes[reader.scalar(table, 0, "I")]),
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
    if start + size > len(reader.data):  # weights behind the flatbuffer, in files over 2 GiB
        raise NotTflite("the file ends inside its weights")
    return (start, size) if start > 1 else reader.vector(table, 0, 1)


def _operator_name(reader: _Reader, table: Table) -> str:
    code = max(reader.scalar(table, 0, "b"), reader.scalar(table, 3, "i"))
    if code == _CUSTOM:
        return reader.text(table, 1) or "CUSTOM"
    return OPERATORS[code] if 0 <= code < len(OPERATORS) else f"BUILTIN_{code}"


def _options(reader: _Reader, table: Table, name: str) -> tuple[tuple[str, int], ...]:
    kind, fields = _OPTIONS.get(name, (-1, {}))
    at = reader.pointed(table, 4)
    if not at or reader.scalar(table, 3, "B") != kind:
        return ()
    return tuple((key, reader.scalar(at, *field)) for key, field in fields.items())


def _tensor(reader: _Reader, table: Table, buffers: list[tuple[int, int]]) -> TfliteTensor:
    shape = reader.numbers(table, 7, "i") or reader.numbers(table, 0, "i")
    kind = reader.scalar(table, 1, "b")
    start, size = buffers[reader.scalar(table, 2, "I")]
    return TfliteTensor(
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
