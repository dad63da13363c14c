"""Checks labelled data sets before they are used."""

from __future__ import annotations

import zipfile
from math import prod
from pathlib import Path

from numpy.lib import format as npy

from orchestrator.domain.errors import UserError
from orchestrator.domain.file_inspection import Shapes

MAX_BYTES = 4 << 30
"""Bound for the unpacked size; compressed zeros take a thousandth of it."""
CHUNK_BYTES = 1 << 20

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def array_shapes(path: Path, name: str) -> Shapes:
    """The shapes of the arrays of an .npz, each of which is unpacked once, in chunks. Raises
    ``UserError``: not such a file."""
    try:
        with zipfile.ZipFile(path) as archive:
            _require_bounded(archive, name)
            return {m.removesuffix(".npy"): _shape(archive, m) for m in archive.namelist()}
    except (UserError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  numpy, zipfile and zlib raise many kinds
        raise UserError(
            f"{name}: not an .npz data set of plain arrays (np.savez): {type(error).__name__}"
        ) from None


def shapes_of(path: Path, name: str) -> Shapes:
    """The shapes of a data set's arrays: ``labels``, and ``inputs`` and ``calibration`` or, for a
    model of several inputs, ``inputs:INPUT`` and ``calibration:INPUT`` for each. Raises
    ``UserError``: not a data set, or its arrays do not match."""
    shapes = array_shapes(path, name)
    if "labels" not in shapes:
        raise UserError(f"{name}: array 'labels' is missing; it holds {', '.join(shapes)}")
    for kind in ("inputs", "calibration"):
        keys = [key for key in shapes if key == kind or key.startswith(kind + ":")]
        if not keys:
            raise UserError(f"{name}: array {kind!r} is missing; it holds {', '.join(shapes)}")
        if kind in keys and len(keys) > 1:
            raise UserError(f"{name}: it holds {kind!r} and {keys[1]!r}; name all inputs, or none")
        for key in keys:
            if not shapes[key]:
                raise UserError(
                    f"{name}: array {key!r} is one number; expected samples along axis 0"
                )
            if shapes[key][0] != shapes[keys[0]][0]:
                raise UserError(
                    f"{name}: {shapes[keys[0]][0]} samples in {keys[0]!r} but {shapes[key][0]} in "
                    f"{key!r}"
                )
            if kind == "inputs" and shapes["labels"] != shapes[key][:1]:
                raise UserError(f"{name}: {shapes[key][0]} {key} but labels {shapes['labels']}")
    return shapes


def _require_bounded(archive: zipfile.ZipFile, name: str) -> None:
    """Check sizes before unpacking; ``zipfile`` reads no more of a member than its header
    states."""
    size = sum(member.file_size for member in archive.infolist())
    if size > MAX_BYTES:
        raise UserError(f"{name}: it unpacks to {size} bytes, at most {MAX_BYTES} are accepted")


def _shape(archive: zipfile.ZipFile, member: str) -> tuple[int, ...]:
    """The shape of one array. Raises ``ValueError`` if it is not one, holds objects or is
    truncated."""
    with archive.open(member) as file:
        shape, _, dtype = _HEADERS[npy.read_magic(file)](file)
        if dtype.hasobject or any(size < 0 for size in shape):
            raise ValueError("objects")
        remaining = prod(shape) * dtype.itemsize
        while remaining > 0:
            piece = file.read(min(CHUNK_BYTES, remaining))
            if not piece:
                raise ValueError("cut short")
            remaining -= len(piece)
        if file.read(1):  # zipfile verifies the checksum at the end
            raise ValueError("too long")
    return tuple(int(size) for size in shape)
