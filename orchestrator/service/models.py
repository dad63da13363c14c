"""Registering models: check the file, compute the FP32 reference, and only then write a row."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sqlalchemy import String, cast, select
from sqlalchemy.orm import Session

from agent import codec
from agent.contract import DatasetRef, ModelRef, ReferenceRef, TensorSpec
from agent.jobs import Referenced, ReferenceJob
from orchestrator.domain.errors import Conflict, NotFound, UserError
from orchestrator.service import inspect
from orchestrator.service.farm import Farm
from orchestrator.service.views import ArtifactView, ModelView
from orchestrator.store.blobs import SHA256
from orchestrator.store.models import Artifact, Attempt, Model

REFERENCE_FEEDS = 4
"""Seeded inputs of one reference: outputs are compared on inputs that vary (FACTS)."""


@dataclass(frozen=True)
class NewModel:
    """A model to register; its file and data set are blobs already.

    ``file_name`` is what messages call the file and where its format is read from.
    """

    name: str
    file_name: str
    sha256: str
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    dataset_name: str = ""
    dataset_sha256: str = ""


def add(farm: Farm, new: NewModel) -> ModelView:
    """Register a model, or one more format of a model that is there.

    Raises:
        UserError: the file or its data set is not what it should be; nothing is kept.
        Conflict: the model has another file in that format.
    """
    try:
        return _add(farm, new)
    except Exception:
        _forget(farm, [new.sha256, new.dataset_sha256])
        raise


def _add(farm: Farm, new: NewModel) -> ModelView:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", new.name):
        raise UserError(f"model name {new.name!r}: letters, digits, '.', '_', '-' only; use --name")
    form = inspect.format_of(new.file_name)
    path = farm.blobs.path(new.sha256)
    if form == "tflite":
        form = inspect.tflite_model(path, new.file_name)
    with farm.database.transaction() as session:
        present = session.scalar(select(Model).where(Model.name == new.name))
        if present is not None and any(a.format == form for a in present.artifacts):
            return _same(present, form, new)
    if form == "pt2":
        inspect.exported_program(path, new.file_name)
    if form != "onnx":
        return _attach(farm, new, form, path.stat().st_size)
    if present is not None:
        return _attach(farm, new, form, path.stat().st_size)
    inspected = inspect.onnx_model(path, new.file_name, new.shapes)
    dataset = _dataset(farm, new, inspected.inputs)
    with tempfile.TemporaryDirectory(prefix="reference-", dir=farm.settings.home) as folder:
        referenced = _reference(farm, new, inspected.inputs, folder)
        return _insert(farm, new, inspected, dataset, referenced)


def _same(present: Model, form: str, new: NewModel) -> ModelView:
    artifact = next(a for a in present.artifacts if a.format == form)
    if artifact.sha256 == new.sha256:
        _require_same(present, new)
        return view(present)
    raise Conflict(
        f"model {new.name!r} is there with another {form} file ({artifact.sha256[:12]}…); "
        "results already refer to it: choose another name with --name"
    )


def _require_same(present: Model, new: NewModel) -> None:
    """Raises ``Conflict`` where the same file is given with other shapes or another data set."""
    shapes = {i["name"]: list(i["shape"]) for i in present.inputs}
    for name, shape in new.shapes.items():
        if list(shape) != shapes.get(name):
            raise Conflict(
                f"model {new.name!r} is there with {name}={shapes.get(name, 'no such input')}, not "
                f"{list(shape)}; register it once more under another name with --name"
            )
    dataset = present.dataset or {}
    if new.dataset_sha256 and new.dataset_sha256 != dataset.get("sha256"):
        raise Conflict(
            f"model {new.name!r} is there with {dataset.get('name', 'no')} data set, not "
            f"{new.dataset_name}; register it once more under another name with --name"
        )


def _attach(farm: Farm, new: NewModel, form: str, size: int) -> ModelView:
    with farm.database.transaction() as session:
        model = session.scalar(select(Model).where(Model.name == new.name))
        if model is None:
            raise UserError(
                f"{new.file_name}: a {form} file joins a model that is registered as ONNX, which "
                f"gives its inputs and its reference; there is no model {new.name!r} yet: "
                "add its .onnx first, or name the model with --name"
            )
        model.artifacts.append(Artifact(format=form, sha256=new.sha256, size_bytes=size))
        farm.note(session, "artifact_added", new.name, format=form, sha256=new.sha256)
        session.flush()
        return view(model)


def _insert(
    farm: Farm,
    new: NewModel,
    inspected: inspect.Inspected,
    dataset: DatasetRef | None,
    referenced: Referenced,
) -> ModelView:
    reference = Path(referenced.path)
    ref = ReferenceRef(
        sha256=farm.blobs.put_file(reference),
        size_bytes=reference.stat().st_size,
        feeds=REFERENCE_FEEDS,
        origin=referenced.origin,
        top1=referenced.top1,
    )
    try:
        return _write(farm, new, inspected, dataset, ref, referenced.outputs)
    except Exception:
        _forget(farm, [ref.sha256])
        raise


def _write(
    farm: Farm,
    new: NewModel,
    inspected: inspect.Inspected,
    dataset: DatasetRef | None,
    ref: ReferenceRef,
    outputs: tuple[TensorSpec, ...],
) -> ModelView:
    with farm.database.transaction() as session:
        size = farm.blobs.path(new.sha256).stat().st_size
        model = Model(
            name=new.name,
            inputs=[codec.to_plain(i) for i in inspected.inputs],
            outputs=[codec.to_plain(o) for o in outputs],
            free_batch=inspected.free_batch,
            reference=codec.to_plain(ref),
            dataset=codec.to_plain(dataset) if dataset else None,
            details=inspected.details,
            artifacts=[Artifact(format="onnx", sha256=new.sha256, size_bytes=size)],
        )
        session.add(model)
        farm.note(session, "model_added", new.name, sha256=new.sha256)
        session.flush()
        return view(model)


def _reference(
    farm: Farm, new: NewModel, inputs: tuple[TensorSpec, ...], folder: str
) -> Referenced:
    """The reference outputs, in a child: a file from outside is run under its limits."""
    path = farm.blobs.path(new.sha256)
    model = ModelRef(new.name, "onnx", new.sha256, path.stat().st_size, inputs, ())
    dataset = str(farm.blobs.path(new.dataset_sha256)) if new.dataset_sha256 else None
    referenced = farm.reference(
        ReferenceJob(model, str(path), folder, feeds=REFERENCE_FEEDS, dataset=dataset)
    )
    if referenced.failure is not None:
        raise UserError(
            f"{new.file_name}: the reference run failed ({referenced.failure.kind}): "
            f"{referenced.failure.message}"
        )
    return referenced


def _dataset(farm: Farm, new: NewModel, inputs: tuple[TensorSpec, ...]) -> DatasetRef | None:
    if not new.dataset_sha256:
        return None
    path, name = farm.blobs.path(new.dataset_sha256), new.dataset_name
    wanted = inputs[0].shape[1:]
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
    for key in ("inputs", "calibration"):
        if shapes[key][1:] != wanted:
            raise UserError(
                f"{name}: one sample of {key!r} has shape {list(shapes[key][1:])}, "
                f"the model takes {list(wanted)}"
            )
    if shapes["labels"] != shapes["inputs"][:1]:
        raise UserError(f"{name}: {shapes['inputs'][0]} inputs but labels {shapes['labels']}")
    return DatasetRef(
        name=name,
        sha256=new.dataset_sha256,
        size_bytes=path.stat().st_size,
        samples=shapes["inputs"][0],
        calibration_samples=shapes["calibration"][0],
    )


def _forget(farm: Farm, digests: Sequence[str]) -> None:
    """Drop the blobs of a refused model unless a registered one or a result uses them."""
    given = {d for d in digests if SHA256.fullmatch(d)}
    results = cast(Attempt.result, String)
    with farm.database.transaction() as session:
        used = set(session.scalars(select(Artifact.sha256).where(Artifact.sha256.in_(given))))
        used |= {
            d
            for d in given
            if session.scalar(select(Attempt.id).where(results.contains(d)).limit(1))
        }
        for model in session.scalars(select(Model)):
            used |= {blob["sha256"] for blob in (model.reference, model.dataset) if blob}
        farm.blobs.discard(given - used)


def models(farm: Farm) -> list[ModelView]:
    with farm.database.snapshot() as session:
        return [view(m) for m in session.scalars(select(Model).order_by(Model.name))]


def model(farm: Farm, name: str) -> ModelView:
    with farm.database.snapshot() as session:
        return view(find(session, name))


def find(session: Session, name: str) -> Model:
    """Raises ``NotFound``."""
    found = session.scalar(select(Model).where(Model.name == name))
    if found is None:
        raise NotFound("model", name, list(session.scalars(select(Model.name))))
    return found


def wire(found: Model, form: str) -> ModelRef:
    """The model as a trial takes it: one artifact, shapes as registered."""
    artifact = next(a for a in found.artifacts if a.format == form)
    return ModelRef(
        name=found.name,
        format=form,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        inputs=tuple(codec.from_plain(TensorSpec, i) for i in found.inputs),
        outputs=tuple(codec.from_plain(TensorSpec, o) for o in found.outputs),
    )


def view(found: Model) -> ModelView:
    reference = codec.from_plain(ReferenceRef, found.reference)
    return ModelView(
        name=found.name,
        inputs=found.inputs,
        outputs=found.outputs,
        free_batch=found.free_batch,
        artifacts=[
            ArtifactView(format=a.format, sha256=a.sha256, size_bytes=a.size_bytes)
            for a in found.artifacts
        ],
        dataset=found.dataset["name"] if found.dataset else "",
        reference=reference.origin,
        reference_top1=reference.top1,
        details=found.details,
        created_at=found.created_at,
    )
