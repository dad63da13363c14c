"""Checks that a model's file is complete and in the stated format. It is not loaded: its runtime
does that in another child process."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from agent.formats import tflite, tflite_analysis
from orchestrator.domain.errors import UserError

HDF5 = b"\x89HDF\r\n\x1a\n"


def checked(path: Path, name: str, file_format: str) -> str:
    """Check a file's format, and return it: a TFLite file may be one compiled for the Edge TPU.

    Args:
        path: the file.
        name: its name in messages.

    Raises:
        UserError: empty, truncated, or another format.
    """
    if path.stat().st_size == 0:
        raise UserError(f"{name}: the file is empty; expected a {file_format} model")
    if file_format in ("tflite", "edgetpu_tflite"):
        return _tflite(path, name)
    if file_format in _CHECKS:
        _CHECKS[file_format](path, name)
    return file_format


def _exported_program(path: Path, name: str) -> None:
    names = _archive(path, name, ".pt2 exported program")
    if not any("models/" in n or n.endswith("serialized_exported_program.json") for n in names):
        raise UserError(
            f"{name}: not a .pt2 exported program; make one with torch.export.save(program, path)"
        )


def _tflite(path: Path, name: str) -> str:
    try:
        graph = tflite.read(path)
    except (tflite.NotTflite, ValueError) as error:
        raise UserError(
            f"{name}: not a TFLite model (truncated, or another format?): {error}"
        ) from None
    return "edgetpu_tflite" if tflite_analysis.is_compiled_for_edgetpu(graph) else "tflite"


def _keras(path: Path, name: str) -> None:
    names = _archive(path, name, ".keras model")
    if "config.json" not in names:
        raise UserError(f"{name}: not a .keras model; make one with model.save('net.keras')")


def _hdf5(path: Path, name: str) -> None:
    with path.open("rb") as file:
        if file.read(len(HDF5)) != HDF5:
            raise UserError(f"{name}: not an HDF5 file; make one with model.save('net.h5')")


def _saved_model(path: Path, name: str) -> None:
    names = _archive(path, name, "SavedModel archive")
    for member in names:
        if member.startswith("/") or "\\" in member or ".." in PurePosixPath(member).parts:
            raise UserError(f"{name}: its member {member!r} would lie outside of its folder")
    if "saved_model.pb" not in names:
        raise UserError(
            f"{name}: no saved_model.pb at its top; give the SavedModel's folder itself, or an "
            "archive of what is in it"
        )


def _archive(path: Path, name: str, what: str) -> list[str]:
    """The member names of an undamaged zip archive. Raises ``UserError``."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            damaged = archive.testzip()
    except Exception as error:  # noqa: BLE001  zipfile and its decompressors raise many kinds
        raise UserError(f"{name}: not a {what} (no zip archive): {error}") from None
    if damaged:
        raise UserError(f"{name}: not a {what}: {damaged} in it is damaged")
    return names


_NODE, _VERSION = 0x0A, 0x18
_GRAPH_FIELDS = (_NODE, 0x12, _VERSION, 0x22, 0x2A)
"""Tags of a ``GraphDef``: node, library, version (a varint), versions, debug_info."""


def _frozen_graph(path: Path, name: str) -> None:
    """A ``GraphDef``: valid protobuf fields up to the last byte, with at least one node (field
    1)."""
    size, at, nodes = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            tag, after = _varint(file.read(10), at)
            file.seek(max(after, 0))
            number, end = _varint(file.read(10), after)
            if end < 0 or tag not in _GRAPH_FIELDS:
                break
            at = end if tag == _VERSION else end + number
            nodes += tag == _NODE
    if at != size or not nodes:
        raise UserError(
            f"{name}: not a frozen graph (truncated, or another format?); of a SavedModel give the "
            "folder that its .pb lies in"
        )


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A protobuf varint and the offset after it; (-1, -1) if it is truncated."""
    value = 0
    for index, byte in enumerate(data):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    return -1, -1


_CHECKS: dict[str, Callable[[Path, str], None]] = {
    "pt2": _exported_program,
    "keras": _keras,
    "h5": _hdf5,
    "savedmodel": _saved_model,
    "frozen_pb": _frozen_graph,
    "optimised_pb": _frozen_graph,
}
