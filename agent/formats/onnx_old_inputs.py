"""ONNX files of before 2019 (IR versions up to 3) list every weight among the graph's inputs too;
some tools take them for inputs. This writes a copy without them.

Field numbers are those of onnx/onnx.proto, as in ``agent.formats.onnx``: ModelProto.ir_version 1,
GraphProto.initializer 5, TensorProto.name 8.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, List, Set, Union

from agent.formats.onnx import fields, messages, view_of

_IR, _GRAPH, _INITIALIZER, _INPUT = 1, 7, 5, 11
_NAME_OF_VALUE, _NAME_OF_TENSOR = 1, 8
FIRST_IR_WITHOUT = 4
"""The first version of the format in which a weight need not be an input."""

Part = Union[bytes, memoryview]


def write_without_listed_weights(source: Path, target: Path) -> bool:
    """Copy ``source`` to ``target`` without the weights among its inputs. False: it lists none, and
    nothing is written. Raises ``NotProtobuf``, ``OSError``."""
    view = view_of(source)
    graphs = list(messages(view, _GRAPH))
    weights = {
        _text(tensor, _NAME_OF_TENSOR)
        for graph in graphs
        for tensor in messages(graph, _INITIALIZER)
    }
    listed = [_text(value, _NAME_OF_VALUE) for graph in graphs for value in messages(graph, _INPUT)]
    if not weights.intersection(listed):
        return False
    with open(str(target), "wb") as file:
        for part in _model(view, weights):
            file.write(part)
    return True


def _model(view: memoryview, weights: Set[bytes]) -> Iterator[Part]:
    yield from _number(_IR, FIRST_IR_WITHOUT)
    for number, value in fields(view):
        if number == _IR:
            if isinstance(value, int) and value > FIRST_IR_WITHOUT:
                yield from _number(_IR, value)  # of two, the last one counts
        elif number == _GRAPH and not isinstance(value, int):
            parts = list(_graph(value, weights))
            yield from _header(_GRAPH, sum(len(part) for part in parts))
            yield from parts
        else:
            yield from _field(number, value)


def _graph(view: memoryview, weights: Set[bytes]) -> Iterator[Part]:
    for number, value in fields(view):
        is_input = number == _INPUT and not isinstance(value, int)
        if not is_input or _text(value, _NAME_OF_VALUE) not in weights:  # type: ignore[arg-type]
            yield from _field(number, value)


def _text(message: memoryview, field: int) -> bytes:
    return b"".join(bytes(part) for part in messages(message, field))


def _field(number: int, value: Union[int, memoryview]) -> List[Part]:
    if isinstance(value, int):
        return _number(number, value)
    return [*_header(number, len(value)), value]


def _number(number: int, value: int) -> List[Part]:
    return [_varint(number << 3) + _varint(value)]


def _header(number: int, size: int) -> List[Part]:
    return [_varint(number << 3 | 2) + _varint(size)]


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
