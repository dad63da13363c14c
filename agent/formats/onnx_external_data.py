"""Where an ONNX file keeps its weights, found without reading them.

One protobuf message holds at most 2 GiB, so larger networks keep weights in files beside it (field
numbers of onnx/onnx.proto: GraphProto.initializer 5, TensorProto.external_data 13 and
.data_location 14, whose EXTERNAL is 1; StringStringEntryProto.key 1, .value 2).
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Iterator, Set

from agent.contract.failures import Unsupported
from agent.formats.onnx import NotProtobuf, fields, messages

MESSAGE_BYTES = (2 << 30) - 1
_GRAPH, _INITIALIZER, _EXTERNAL_DATA, _LOCATION, _EXTERNAL, _KEY, _VALUE = 7, 5, 13, 14, 1, 1, 2


def external_files(path: Path) -> Set[Path]:
    """The files beside ``path`` that hold its initializers; none for a file that is not ONNX, which
    its reader refuses. Raises ``OSError``."""
    if path.stat().st_size == 0:
        return set()
    try:
        with open(str(path), "rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return {path.parent / name for name in _locations(view)}
    except NotProtobuf:
        return set()


def _locations(view: memoryview) -> Iterator[str]:
    for graph in messages(view, _GRAPH):
        for tensor in messages(graph, _INITIALIZER):
            if not any(n == _LOCATION and v == _EXTERNAL for n, v in fields(tensor)):
                continue
            for entry in messages(tensor, _EXTERNAL_DATA):
                key, value = (_text(entry, number) for number in (_KEY, _VALUE))
                if key == "location":
                    yield value


def _text(message: memoryview, number: int) -> str:
    return b"".join(bytes(part) for part in messages(message, number)).decode("utf-8", "replace")


def require_whole(path: Path) -> None:
    """Check that a reader can get the whole network.

    Raises:
        Unsupported: one file that is too large for protobuf, which readers report as damaged after
            minutes, or weights in a file that is missing.
    """
    if not path.is_file():
        return
    size = path.stat().st_size
    if size > MESSAGE_BYTES:
        raise Unsupported(
            "%s has %d MiB, and one ONNX message holds at most 2 GiB: no runtime reads it"
            % (path.name, size >> 20)
        )
    missing = sorted(p.name for p in external_files(path) if not p.is_file())
    if missing:
        raise Unsupported(
            "the model keeps weights in %s, which is not beside it: make one file of it, with"
            " onnx.save(onnx.load(PATH), PATH)" % ", ".join(missing)[:200]
        )


def require_one_message(path: Path, converter: str) -> None:
    """Check, before any memory is taken, that the network with its weights fits into one message,
    which some converters need.

    Raises:
        Unsupported: it does not.
    """
    size = sum(os.path.getsize(str(p)) for p in (path, *external_files(path)) if p.is_file())
    if size > MESSAGE_BYTES:
        raise Unsupported(
            "%s holds a network in one ONNX message, of at most 2 GiB; with its weights this one"
            " has %d MiB" % (converter, size >> 20)
        )
