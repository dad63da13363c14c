"""Labelled data sets: checked against their model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent.contract.trial import DatasetRef, TensorSpec
from orchestrator.domain.errors import UserError
from orchestrator.domain.file_inspection import DatasetArrays, Shapes
from orchestrator.service.models import dataset_values


def require_fit(data: DatasetArrays, name: str, inputs: Sequence[TensorSpec]) -> None:
    """Raises ``UserError`` where the arrays are not of the model's inputs, a sample's shape is not
    that of its input, or its values are not what that input holds."""
    for kind in ("inputs", "calibration"):
        arrays = of_kind(data.shapes, kind)
        if "" in arrays:
            if len(inputs) != 1:
                wanted = ", ".join(f"{kind}:{spec.name}" for spec in inputs)
                raise UserError(
                    f"{name}: {kind!r} feeds one input, and the model has {len(inputs)}; it must "
                    f"hold the arrays {wanted}"
                )
            arrays = {inputs[0].name: arrays[""]}
        names = {spec.name for spec in inputs}
        if set(arrays) != names:
            odd = min(set(arrays) ^ names)
            wrong = "is no input of the model" if odd in arrays else f"has no array {kind}:{odd}"
            raise UserError(
                f"{name}: input {odd!r} {wrong}; its inputs are {', '.join(s.name for s in inputs)}"
            )
        for spec in inputs:
            key = kind if kind in data.shapes else f"{kind}:{spec.name}"
            if arrays[spec.name][1:] != spec.shape[1:]:
                raise UserError(
                    f"{name}: one sample of {key!r} has shape {list(arrays[spec.name][1:])}, "
                    f"the model takes {list(spec.shape[1:])}"
                )
            dataset_values.require_kept(data.values, name, key, spec)


def of_kind(shapes: Shapes, kind: str) -> Shapes:
    """Input → shape of its array ``kind:INPUT``; under an empty name that of the array ``kind``,
    which is the model's only input's."""
    return {
        key[len(kind) + 1 :]: shape
        for key, shape in shapes.items()
        if key == kind or key.startswith(kind + ":")
    }


def dataset_ref(shapes: Shapes, name: str, sha256: str, path: Path) -> DatasetRef:
    samples, calibration = (
        next(iter(of_kind(shapes, kind).values()))[0] for kind in ("inputs", "calibration")
    )
    return DatasetRef(
        name=name,
        sha256=sha256,
        size_bytes=path.stat().st_size,
        samples=samples,
        calibration_samples=calibration,
    )
