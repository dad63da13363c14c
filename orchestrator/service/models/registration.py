"""Registering models: a file is checked, its reference outputs are computed or compared with those
of the model it belongs to, and only then rows are written."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.contract import codec
from agent.contract.scoring import Scoring
from agent.contract.trial import ModelRef, ReferenceRef, TensorSpec
from orchestrator.domain import names
from orchestrator.domain.errors import Conflict, NotFound, UserError
from orchestrator.domain.yaml_source import shortened
from orchestrator.service.context import FarmContext
from orchestrator.service.models import (
    file_formats,
    further_formats,
    inspection,
    source_file,
    tasks,
)
from orchestrator.service.models.source_file import tensors
from orchestrator.service.views import ArtifactView, ModelView
from orchestrator.store import blob_references
from orchestrator.store.blobs import SHA256
from orchestrator.store.tables import Artifact, Model


@dataclass(frozen=True)
class NewModel:
    """A model to register; its file, data set and feeds are stored as blobs.

    ``file_name``: for messages, and for the format, unless ``format`` is given. ``inputs``: what
    inputs are drawn from (``orchestrator.domain.input_values``); ``feeds``: an .npz of them.
    ``scoring``: what was declared of the task.
    """

    name: str
    file_name: str
    sha256: str
    format: str = ""
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    dataset_name: str = ""
    dataset_sha256: str = ""
    inputs: Sequence[str] = ()
    feeds_name: str = ""
    feeds_sha256: str = ""
    scoring: Scoring | None = None


def add(farm: FarmContext, new: NewModel) -> ModelView:
    """Register a model, or one more format of a model that is there.

    Raises:
        UserError: the file or its data set is not what it should be, or the file is not the same
            network as the model that it joins; nothing is kept.
        Conflict: the model has another file in that format, other shapes or another data set.
    """
    try:
        return _add(farm, new)
    except Exception:
        _discard_unused_blobs(farm, [new.sha256, new.dataset_sha256])
        raise
    finally:
        _discard_unused_blobs(farm, [new.feeds_sha256])  # the reference holds them


def _add(farm: FarmContext, new: NewModel) -> ModelView:
    why = names.mistake(new.name)
    if why:
        raise UserError(f"model name {shortened(new.name)}: {why}; use --name")
    promised = file_formats.format_of(new.file_name, new.format)
    path = farm.blobs.path(new.sha256)
    with farm.database.read_session() as session:
        existing = session.scalar(select(Model).where(Model.name == new.name))
    found = inspection.check_format(
        farm.inspect, path, new.file_name, promised, facts_follow=existing is None
    )
    form = found.format
    file = source_file.SourceFile(
        new.file_name, form, found.precision, new.sha256, path, found.stored
    )
    if existing is None:
        return _create(farm, new, file)
    _require_same(existing, new)
    artifact = next((a for a in existing.artifacts if a.format == form), None)
    if artifact is None:
        return _attach(farm, existing, file)
    if artifact.sha256 != new.sha256:
        raise Conflict(
            f"model {new.name!r} is there with another {form} file ({artifact.sha256[:12]}…); "
            "results already refer to it: choose another name with --name"
        )
    if artifact.checked.startswith(further_formats.UNCHECKED):
        return _check_again(farm, existing, file)
    return model_view(existing)


def _require_same(existing: Model, new: NewModel) -> None:
    """Raises ``Conflict`` where an existing model is given other shapes or another data set."""
    shapes = {i["name"]: list(i["shape"]) for i in existing.inputs}
    for name, shape in new.shapes.items():
        if list(shape) != shapes.get(name):
            raise Conflict(
                f"model {new.name!r} is there with {name}={shapes.get(name, 'no such input')}, not "
                f"{list(shape)}; register it once more under another name with --name"
            )
    dataset = existing.dataset or {}
    if new.dataset_sha256 and new.dataset_sha256 != dataset.get("sha256"):
        raise Conflict(
            f"model {new.name!r} is there with {dataset.get('name', 'no')} data set, not "
            f"{new.dataset_name}; register it once more under another name with --name"
        )
    given = _given_words(new)
    if given and given != existing.details.get("given"):
        raise Conflict(
            f"model {new.name!r} is there with its reference inputs, on which all its files are "
            "compared; leave --input and --inputs out, or register it under another name (--name)"
        )
    if new.scoring is not None and not tasks.same(new.scoring, existing):
        raise Conflict(
            f"model {new.name!r} is there with the task "
            f"{existing.details.get('task', 'none: it has no data set')}; register it once more "
            "under another name with --name"
        )


def _given_words(new: NewModel) -> dict[str, Any]:
    """What was said of the inputs, as it is stored with the model; empty: nothing."""
    found: dict[str, Any] = {}
    if new.inputs:
        found["inputs"] = sorted(new.inputs)
    if new.feeds_sha256:
        found["feeds"] = new.feeds_sha256
    return found


def _create(farm: FarmContext, new: NewModel, file: source_file.SourceFile) -> ModelView:
    if new.scoring is not None and not new.dataset_sha256:
        raise UserError("a task says how labels are scored, and there is no data set: give one")
    dataset = source_file.CheckedDataset.of(farm, new.dataset_name, new.dataset_sha256, new.scoring)
    given = source_file.GivenInputs.of(farm, new.inputs, new.feeds_name, new.feeds_sha256)
    with tempfile.TemporaryDirectory(prefix="reference-", dir=farm.settings.home) as folder:
        source = source_file.read_source(
            farm.inspect,
            farm.compute_reference,
            new.name,
            file,
            new.shapes,
            dataset,
            folder,
            given,
        )
        file = replace(file, precision=source.details["precision"])
        ref = ReferenceRef(
            sha256=farm.blobs.put_file(source.reference),
            size_bytes=source.reference.stat().st_size,
            feeds=source.feeds,
            origin=source.origin,
            top1=source.top1,
        )
    words = _given_words(new)
    try:
        with farm.database.transaction() as session:
            blob_references.share_blobs_lock(session, farm.blobs, _needed_blobs(file, ref, dataset))
            model = Model(
                name=new.name,
                inputs=[codec.to_plain(i) for i in source.inputs],
                outputs=[codec.to_plain(o) for o in source.outputs],
                free_batch=source.free_batch,
                reference=codec.to_plain(ref),
                dataset=codec.to_plain(replace(dataset.ref, scoring=source.scoring))
                if dataset
                else None,
                details={**source.details, **({"given": words} if words else {})},
                artifacts=[
                    _artifact(
                        file, further_formats.CheckedAgainstModel(checked=further_formats.REFERENCE)
                    )
                ],
            )
            session.add(model)
            farm.record_event(
                session, "model_added", new.name, format=file.format, sha256=new.sha256
            )
            session.flush()
            return model_view(model)
    except Exception:
        _discard_unused_blobs(farm, [ref.sha256])
        raise


def _needed_blobs(
    file: source_file.SourceFile, ref: ReferenceRef, dataset: source_file.CheckedDataset | None
) -> list[str]:
    return [file.sha256, ref.sha256, *([dataset.ref.sha256] if dataset else [])]


def _attach(farm: FarmContext, existing: Model, file: source_file.SourceFile) -> ModelView:
    joined = further_formats.check_against_model(farm, existing, file)
    details = existing.details
    if "work" not in details and joined.inputs and file.format in inspection.GRAPHS:
        work = inspection.count_work(farm.inspect, file.path, file.name, file.format, joined.inputs)
        details = {**details, "work": work}
    if file.stored:
        details = {**details, "stored": {**details.get("stored", {}), file.format: file.stored}}
    with farm.database.transaction() as session:
        blob_references.share_blobs_lock(session, farm.blobs, [file.sha256])
        model = find(session, existing.name)
        model.artifacts.append(_artifact(file, joined))
        model.details = details
        farm.record_event(
            session,
            "artifact_added",
            model.name,
            format=file.format,
            sha256=file.sha256,
            checked=joined.checked,
        )
        session.flush()
        return model_view(model)


def _check_again(farm: FarmContext, existing: Model, file: source_file.SourceFile) -> ModelView:
    """Check a file again that was kept unchecked: its runtime may be installed now."""
    joined = further_formats.check_against_model(farm, existing, file)
    with farm.database.transaction() as session:
        model = find(session, existing.name)
        artifact = next(a for a in model.artifacts if a.format == file.format)
        artifact.own_inputs, artifact.own_outputs = joined.plain_inputs, joined.plain_outputs
        artifact.checked = joined.checked
        return model_view(model)


def _artifact(
    file: source_file.SourceFile, joined: further_formats.CheckedAgainstModel
) -> Artifact:
    return Artifact(
        format=file.format,
        sha256=file.sha256,
        size_bytes=file.path.stat().st_size,
        precision=file.precision,
        own_inputs=joined.plain_inputs,
        own_outputs=joined.plain_outputs,
        checked=joined.checked,
    )


def _discard_unused_blobs(farm: FarmContext, digests: Sequence[str]) -> None:
    """Delete the blobs of a refused model unless something refers to them."""
    farm.free_blobs([d for d in digests if SHA256.fullmatch(d)])


def models(farm: FarmContext) -> list[ModelView]:
    with farm.database.read_session() as session:
        return [model_view(m) for m in session.scalars(select(Model).order_by(Model.name))]


def model(farm: FarmContext, name: str) -> ModelView:
    with farm.database.read_session() as session:
        return model_view(find(session, name))


def find(session: Session, name: str) -> Model:
    """Raises ``NotFound``."""
    found = session.scalar(select(Model).where(Model.name == name))
    if found is None:
        raise NotFound("model", name, list(session.scalars(select(Model.name))))
    return found


def model_ref(found: Model, form: str) -> ModelRef:
    """The model in a trial's request: one artifact, the registered shapes, and the artifact's own
    tensors where they differ from the model's."""
    artifact = next(a for a in found.artifacts if a.format == form)
    inputs, outputs = tensors(found.inputs), tensors(found.outputs)
    own_inputs, own_outputs = tensors(artifact.own_inputs), tensors(artifact.own_outputs)
    return ModelRef(
        name=found.name,
        format=form,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        inputs=inputs,
        outputs=outputs,
        own_inputs=own_inputs if differ(inputs, own_inputs) else (),
        own_outputs=own_outputs if differ(outputs, own_outputs) else (),
        precision=artifact.precision,
    )


def differ(model: Sequence[TensorSpec], own: Sequence[TensorSpec]) -> bool:
    """Whether a file's tensors have other names, shapes or known layouts than the model's."""
    return any(
        (m.name, m.shape) != (o.name, o.shape) or (m.layout != o.layout and m.layout and o.layout)
        for m, o in zip(model, own, strict=False)
    )


def model_view(found: Model) -> ModelView:
    reference = codec.from_plain(ReferenceRef, found.reference)
    return ModelView(
        name=found.name,
        inputs=found.inputs,
        outputs=found.outputs,
        free_batch=found.free_batch,
        artifacts=[_artifact_view(found, a) for a in found.artifacts],
        dataset=found.dataset["name"] if found.dataset else "",
        dataset_sha256=found.dataset["sha256"] if found.dataset else "",
        reference=reference.origin,
        reference_top1=reference.top1,
        details=found.details,
        created_at=found.created_at,
    )


def _artifact_view(found: Model, artifact: Artifact) -> ArtifactView:
    first = artifact.checked == further_formats.REFERENCE
    return ArtifactView(
        format=artifact.format,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        checked=artifact.checked,
        precision=artifact.precision,
        inputs=found.inputs if first else artifact.own_inputs or [],
        outputs=found.outputs if first else artifact.own_outputs or [],
    )
