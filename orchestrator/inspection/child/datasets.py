"""Checks labelled data sets before they are used."""

from __future__ import annotations

import zipfile
from math import prod
from pathlib import Path

from numpy.lib import format as npy

from orchestrator.domain.errors import UserError
from orchestrator.domain.file_inspection import ArrayValues, DatasetArrays
from orchestrator.inspection.child.array_values import ValueScan

MAX_BYTES = 4 << 30
"""Bound for the unpacked size; compressed zeros take a thousandth of it."""
CHUNK_BYTES = 1 << 20

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def arrays_of(path: Path, name: str) -> DatasetArrays:
    """The shapes and values of a data set's arrays, each of which is unpacked once, in chunks.
    Raises ``UserError``: not a data set, or its arrays do not match."""
    try:
        with zipfile.ZipFile(path) as archive:
            _require_bounded(archive, name)
            arrays = {m.removesuffix(".npy"): _read(archive, m) for m in archive.namelist()}
    except (UserError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  numpy, zipfile and zlib raise many kinds
        raise UserError(
            f"{name}: not an .npz data set of plain arrays (np.savez): {type(error).__name__}"
        ) from None
    shapes = {key: shape for key, (shape, _) in arrays.items()}
    for key in ("inputs", "labels", "calibration"):
        if key not in shapes:
            raise UserError(f"{name}: array {key!r} is missing; it holds {', '.join(shapes)}")
    for key in ("inputs", "calibration"):
        if not shapes[key]:
            raise UserError(f"{name}: array {key!r} is one number; expected samples along axis 0")
    if shapes["labels"][:1] != shapes["inputs"][:1]:
        raise UserError(f"{name}: {shapes['inputs'][0]} inputs but labels {shapes['labels']}")
    if not shapes["inputs"][0]:
        raise UserError(f"{name}: array 'inputs' is empty; expected samples along axis 0")
    return DatasetArrays(shapes, {key: values for key, (_, values) in arrays.items()})


def _require_bounded(archive: zipfile.ZipFile, name: str) -> None:
    """Check sizes before unpacking; ``zipfile`` reads no more of a member than its header
    states."""
    size = sum(member.file_size for member in archive.infolist())
    if size > MAX_BYTES:
        raise UserError(f"{name}: it unpacks to {size} bytes, at most {MAX_BYTES} are accepted")


def _read(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], ArrayValues]:
    """The shape and values of one array. Raises ``ValueError`` if it is not one, holds objects or
    is truncated."""
    with archive.open(member) as file:
        shape, by_columns, dtype = _HEADERS[npy.read_magic(file)](file)
        if dtype.hasobject or any(size < 0 for size in shape):
            raise ValueError("objects")
        sizes = tuple(int(size) for size in shape)
        scan = ValueScan(member.removesuffix(".npy"), dtype, sizes, "F" if by_columns else "C")
        remaining = prod(shape) * dtype.itemsize
        while remaining > 0:
            piece = file.read(min(CHUNK_BYTES, remaining))
            if not piece:
                raise ValueError("cut short")
            remaining -= len(piece)
            scan.add(piece)
        if file.read(1):  # zipfile verifies the checksum at the end
            raise ValueError("too long")
    return sizes, scan.result()
