"""Checks labelled data sets before they are used."""

from __future__ import annotations

import zipfile
from math import prod
from pathlib import Path

from numpy.lib import format as npy

from orchestrator.domain.errors import UserError
from orchestrator.domain.file_inspection import ArrayValues, DatasetArrays, Shapes
from orchestrator.inspection.child.array_values import ValueScan

MAX_BYTES = 4 << 30
"""Bound for the unpacked size; compressed zeros take a thousandth of it."""
CHUNK_BYTES = 1 << 20

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def array_shapes(path: Path, name: str) -> Shapes:
    """The shapes of the arrays of an .npz. Raises ``UserError``: not such a file."""
    return {key: shape for key, (shape, _) in _arrays(path, name).items()}


def _arrays(path: Path, name: str) -> dict[str, tuple[tuple[int, ...], ArrayValues]]:
    """Each array is unpacked once, in chunks."""
    try:
        with zipfile.ZipFile(path) as archive:
            _require_bounded(archive, name)
            return {m.removesuffix(".npy"): _read(archive, m) for m in archive.namelist()}
    except (UserError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  numpy, zipfile and zlib raise many kinds
        raise UserError(
            f"{name}: not an .npz data set of plain arrays (np.savez): {type(error).__name__}"
        ) from None


def arrays_of(path: Path, name: str) -> DatasetArrays:
    """The shapes and values of a data set's arrays: ``labels``, and ``inputs`` and ``calibration``
    or, for a model of several inputs, ``inputs:INPUT`` and ``calibration:INPUT`` for each. Raises
    ``UserError``: not a data set, or its arrays do not match."""
    arrays = _arrays(path, name)
    shapes = {key: shape for key, (shape, _) in arrays.items()}
    _require_matching(shapes, name)
    return DatasetArrays(shapes, {key: values for key, (_, values) in arrays.items()})


def _require_matching(shapes: Shapes, name: str) -> None:
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
            if kind == "inputs" and shapes["labels"][:1] != shapes[key][:1]:
                raise UserError(f"{name}: {shapes[key][0]} {key} but labels {shapes['labels']}")
            if kind == "inputs" and not shapes[key][0]:
                raise UserError(f"{name}: array {key!r} is empty; expected samples along axis 0")


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
