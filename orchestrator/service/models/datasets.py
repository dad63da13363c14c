"""Labelled data sets: checked against their model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent.contract.trial import DatasetRef, TensorSpec
from orchestrator.domain.errors import UserError
from orchestrator.domain.file_inspection import DatasetArrays, Shapes
from orchestrator.service.models import dataset_values


def require_fit(arrays: DatasetArrays, name: str, inputs: Sequence[TensorSpec]) -> None:
    """Raises ``UserError`` where a sample's shape is not that of the model's first input, or its
    values are not what that input holds."""
    shapes, wanted = arrays.shapes, inputs[0].shape[1:]
    for key in ("inputs", "calibration"):
        if shapes[key][1:] != wanted:
            raise UserError(
                f"{name}: one sample of {key!r} has shape {list(shapes[key][1:])}, "
                f"the model takes {list(wanted)}"
            )
        dataset_values.require_kept(arrays.values, name, key, inputs[0])


def dataset_ref(shapes: Shapes, name: str, sha256: str, path: Path) -> DatasetRef:
    return DatasetRef(
        name=name,
        sha256=sha256,
        size_bytes=path.stat().st_size,
        samples=shapes["inputs"][0],
        calibration_samples=shapes["calibration"][0],
    )
