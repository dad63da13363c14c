"""Small files that want much of whoever reads them."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from onnx import TensorProto, helper

FIFTY_GIB = 50 << 30


def onnx_bomb() -> bytes:
    """A valid ONNX file of a few hundred bytes, one of whose small tensors is computed from one
    of 50 GiB, whose size the file lies about."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [FIFTY_GIB // 4])
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["large"], value=value),
        helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=1),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    one = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "y", "large")]
    graph = helper.make_graph(nodes, "bomb", one[:1], one[1:2], [shape], value_info=one[2:])
    opsets = [helper.make_opsetid("", 17)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return made


def onnx_of_empty_nodes(count: int) -> bytes:
    """Two bytes an operator, of which protobuf makes a hundred and more."""
    nodes = b"\x0a\x00" * count
    size, length = bytearray(), len(nodes)
    while length >= 0x80:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return b"\x08\x09" + b"\x3a" + bytes(size) + nodes


def tflite_bomb(operators: int = 100_000, inputs: int = 100_000) -> bytes:
    """A TFLite file all of whose operators are one and the same table, which has many inputs:
    8 bytes for each pair of them once they are read, less than 1 MB here."""
    data = bytearray(b"\0\0\0\0TFL3")

    def table(fields: int) -> int:
        vtable = len(data)
        data.extend(struct.pack("<HH", 4 + 2 * fields, 4 + 4 * fields))
        data.extend(struct.pack(f"<{fields}H", *(4 + 4 * n for n in range(fields))))
        start = len(data)
        data.extend(struct.pack("<i", start - vtable) + bytes(4 * fields))
        return start

    def field(start: int, number: int) -> int:
        return start + 4 + 4 * number

    def point_here(at: int) -> None:
        struct.pack_into("<I", data, at, len(data) - at)

    def vector(at: int, values: bytes, count: int) -> int:
        point_here(at)
        data.extend(struct.pack("<I", count))
        first = len(data)
        data.extend(values)
        return first

    def tables(at: int, fields: int, count: int = 1) -> int:
        first = vector(at, bytes(4 * count), count)
        start = table(fields)
        for number in range(count):
            place = first + 4 * number
            struct.pack_into("<I", data, place, start - place)
        return start

    root = table(5)
    struct.pack_into("<I", data, 0, root)
    struct.pack_into("<I", data, field(root, 0), 3)
    tables(field(root, 1), 0)
    tables(field(root, 4), 0)
    graph = tables(field(root, 2), 4)
    tables(field(graph, 0), 0)
    for number in (1, 2):
        vector(field(graph, number), bytes(4), 1)
    operator = tables(field(graph, 3), 3, operators)
    vector(field(operator, 1), bytes(4 * inputs), inputs)
    vector(field(operator, 2), bytes(4), 1)
    return bytes(data)


def npz_that_says(path: Path, size_bytes: int) -> None:
    """An archive of two arrays, each said to unpack to ``size_bytes`` (below 4 GiB)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("inputs", "calibration"):
            archive.writestr(f"{name}.npy", bytes(1 << 16))
    data, at = bytearray(path.read_bytes()), 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:  # its directory: sizes at 24 of each entry
        struct.pack_into("<I", data, at + 24, size_bytes)
        at += 4
    path.write_bytes(data)
