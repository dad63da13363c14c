"""Input dimensions and output names of an ONNX file, read from its protobuf bytes.

ONNX Runtime wants free dimensions fixed by name *before* it loads a model, but tells the names only
afterwards. Field numbers are those of onnx/onnx.proto (ModelProto.graph 7, GraphProto.input 11 and
.output 12, ValueInfoProto.name 1 and .type 2, TypeProto.tensor_type 1, Tensor.shape 2,
TensorShapeProto.dim 1, Dimension.dim_value 1 and .dim_param 2). Initializers are skipped unread.
"""

from __future__ import annotations

import mmap
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, FrozenSet, Iterator, List, Tuple, Union

from agent.contract.failures import BadModel

Dimension = Union[int, str]

_GRAPH, _INPUT, _NAME, _TYPE, _TENSOR, _SHAPE, _DIM, _VALUE, _PARAM = 7, 11, 1, 2, 1, 2, 1, 1, 2
_OUTPUT = 12


class NotProtobuf(ValueError):
    """The bytes end early, or hold a wire type that ONNX does not use."""


def input_dimensions(path: Path) -> Dict[str, Tuple[Dimension, ...]]:
    """For each graph input its dimensions: a number, a symbol, or ``""`` for an unnamed free one.

    Raises:
        NotProtobuf: the file is not protobuf, or is cut short.
        OSError: it cannot be read.
    """
    return _read(view_of(path))


def dimensions_of(artifact: Path) -> Dict[str, Tuple[Dimension, ...]]:
    """``input_dimensions`` of a user's file. Raises ``BadModel``."""
    with _bad_model(artifact):
        return input_dimensions(artifact)


def outputs_of(artifact: Path) -> List[str]:
    """``output_names`` of a user's file. Raises ``BadModel``, also where there is none."""
    with _bad_model(artifact):
        names = output_names(artifact)
    if not names:
        raise BadModel("%s is not an ONNX model: its graph has no output" % artifact.name)
    return names


def shapeless_of(artifact: Path) -> FrozenSet[str]:
    """The inputs and outputs of a user's file that have no shape at all, which ONNX Runtime reports
    like those of scalars. Raises ``BadModel``."""
    with _bad_model(artifact):
        values = (
            value
            for graph in messages(view_of(artifact), _GRAPH)
            for number in (_INPUT, _OUTPUT)
            for value in messages(graph, number)
        )
        return frozenset(_name(value) for value in values if not any(True for _ in _shapes(value)))


@contextmanager
def _bad_model(artifact: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise BadModel("%s does not exist" % artifact.name) from error
    except NotProtobuf as error:
        raise BadModel("%s is not an ONNX model: %s" % (artifact.name, error)) from error


def output_names(path: Path) -> List[str]:
    """The graph's outputs, in order. Raises like ``input_dimensions``."""
    return [
        _name(value)
        for graph in messages(view_of(path), _GRAPH)
        for value in messages(graph, _OUTPUT)
    ]


def view_of(path: Path) -> memoryview:
    """The bytes of a file. Raises ``NotProtobuf``: it is empty. ``OSError``."""
    if path.stat().st_size == 0:
        raise NotProtobuf("the file is empty")
    with open(str(path), "rb") as file:
        # Never closed explicitly: slices point into it, and it is freed with the last of them.
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _read(view: memoryview) -> Dict[str, Tuple[Dimension, ...]]:
    found = {}
    for graph in messages(view, _GRAPH):
        for value in messages(graph, _INPUT):
            found[_name(value)] = tuple(
                _dimension(d) for shape in _shapes(value) for d in messages(shape, _DIM)
            )
    return found


def _shapes(value: memoryview) -> Iterator[memoryview]:
    for kind in messages(value, _TYPE):
        for tensor in messages(kind, _TENSOR):
            yield from messages(tensor, _SHAPE)


def _name(value: memoryview) -> str:
    return b"".join(bytes(n) for n in messages(value, _NAME)).decode("utf-8", "replace")


def _dimension(message: memoryview) -> Dimension:
    for number, value in fields(message):
        if number == _VALUE and isinstance(value, int):
            return value if value < 1 << 63 else ""  # some exporters write -1 for a free one
        if number == _PARAM and not isinstance(value, int):
            return bytes(value).decode("utf-8", "replace")
    return ""


def messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The fields of number ``wanted`` that hold bytes: messages, texts, packed numbers."""
    for number, value in fields(message):
        if number == wanted and not isinstance(value, int):
            yield value


def fields(message: memoryview) -> Iterator[Tuple[int, Union[int, memoryview]]]:
    """Number and value of each field, in the order of the file. Raises ``NotProtobuf``."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise NotProtobuf("wire type %d at byte %d" % (wire, at))
        if at + size > end:
            raise NotProtobuf("the file ends inside a field")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> Tuple[int, int]:
    result = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
    raise NotProtobuf("a number is cut short at byte %d" % at)
