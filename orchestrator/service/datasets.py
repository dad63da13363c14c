"""Labelled data sets: checked before anything is computed on them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agent.contract import DatasetRef, TensorSpec
from orchestrator.domain.errors import UserError

Shapes = dict[str, tuple[int, ...]]

MAX_BYTES = 4 << 30
"""What a data set may unpack to: compressed zeros are a thousandth of that."""


def shapes_of(path: Path, name: str) -> Shapes:
    """The arrays of a data set. Raises ``UserError``: not one, or its arrays do not go together."""
    _require_bounded(path, name)
    try:
        # numpy leaves a file open that it opened and found damaged
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            shapes = {key: arrays[key].shape for key in arrays.files}
    except Exception as error:  # noqa: BLE001  numpy, zipfile and zlib raise many kinds
        raise UserError(
            f"{name}: not an .npz data set of plain arrays (np.savez): {type(error).__name__}"
        ) from None
    for key in ("inputs", "labels", "calibration"):
        if key not in shapes:
            raise UserError(f"{name}: array {key!r} is missing; it holds {', '.join(shapes)}")
    if shapes["labels"] != shapes["inputs"][:1]:
        raise UserError(f"{name}: {shapes['inputs'][0]} inputs but labels {shapes['labels']}")
    return shapes


def _require_bounded(path: Path, name: str) -> None:
    """Before anything is unpacked; ``zipfile`` reads no more of a member than it says here."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except Exception:  # noqa: BLE001  what is wrong with it is said by who reads it next
        return
    if size > MAX_BYTES:
        raise UserError(f"{name}: it unpacks to {size} bytes, at most {MAX_BYTES} are accepted")


def require_fit(shapes: Shapes, name: str, inputs: Sequence[TensorSpec]) -> None:
    """Raises ``UserError`` where one sample is not what the model's first input takes."""
    wanted = inputs[0].shape[1:]
    for key in ("inputs", "calibration"):
        if shapes[key][1:] != wanted:
            raise UserError(
                f"{name}: one sample of {key!r} has shape {list(shapes[key][1:])}, "
                f"the model takes {list(wanted)}"
            )


def ref(shapes: Shapes, name: str, sha256: str, path: Path) -> DatasetRef:
    return DatasetRef(
        name=name,
        sha256=sha256,
        size_bytes=path.stat().st_size,
        samples=shapes["inputs"][0],
        calibration_samples=shapes["calibration"][0],
    )
