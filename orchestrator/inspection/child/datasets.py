"""Labelled data sets: checked before anything is computed on them."""

from __future__ import annotations

import zipfile
from math import prod
from pathlib import Path

from numpy.lib import format as npy

from orchestrator.domain.errors import UserError
from orchestrator.domain.file_inspection import Shapes

MAX_BYTES = 4 << 30
"""What a data set may unpack to: compressed zeros are a thousandth of that."""
CHUNK_BYTES = 1 << 20

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def shapes_of(path: Path, name: str) -> Shapes:
    """The arrays of a data set, each unpacked once, a piece at a time. Raises ``UserError``: not
    one, or its arrays do not go together."""
    try:
        with zipfile.ZipFile(path) as archive:
            _require_bounded(archive, name)
            shapes = {m.removesuffix(".npy"): _shape(archive, m) for m in archive.namelist()}
    except (UserError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  numpy, zipfile and zlib raise many kinds
        raise UserError(
            f"{name}: not an .npz data set of plain arrays (np.savez): {type(error).__name__}"
        ) from None
    for key in ("inputs", "labels", "calibration"):
        if key not in shapes:
            raise UserError(f"{name}: array {key!r} is missing; it holds {', '.join(shapes)}")
    for key in ("inputs", "calibration"):
        if not shapes[key]:
            raise UserError(f"{name}: array {key!r} is one number; expected samples along axis 0")
    if shapes["labels"] != shapes["inputs"][:1]:
        raise UserError(f"{name}: {shapes['inputs'][0]} inputs but labels {shapes['labels']}")
    return shapes


def _require_bounded(archive: zipfile.ZipFile, name: str) -> None:
    """Before anything is unpacked; ``zipfile`` reads no more of a member than it says here."""
    size = sum(member.file_size for member in archive.infolist())
    if size > MAX_BYTES:
        raise UserError(f"{name}: it unpacks to {size} bytes, at most {MAX_BYTES} are accepted")


def _shape(archive: zipfile.ZipFile, member: str) -> tuple[int, ...]:
    """Of one array. Raises ``ValueError`` where it is none, holds objects, or is cut short."""
    with archive.open(member) as file:
        shape, _, dtype = _HEADERS[npy.read_magic(file)](file)
        if dtype.hasobject or any(size < 0 for size in shape):
            raise ValueError("objects")
        left = prod(shape) * dtype.itemsize
        while left > 0:
            piece = file.read(min(CHUNK_BYTES, left))
            if not piece:
                raise ValueError("cut short")
            left -= len(piece)
        if file.read(1):  # the end is where its checksum is looked at
            raise ValueError("too long")
    return tuple(int(size) for size in shape)
