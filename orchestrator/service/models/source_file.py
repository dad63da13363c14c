"""The file that a model is registered from: its inputs, outputs and reference outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.contract import codec
from agent.contract.child_jobs import Referenced, ReferenceJob
from agent.contract.input_values import InputValues
from agent.contract.scoring import NOT_SCORED, Scoring
from agent.contract.scoring import described as described_task
from agent.contract.trial import DatasetRef, Failure, ModelRef, TensorSpec
from agent.runtimes.formats import FORMATS
from orchestrator.domain import input_values
from orchestrator.domain.errors import UserError
from orchestrator.domain.file_inspection import DatasetArrays, Inspector
from orchestrator.service.context import FarmContext
from orchestrator.service.models import dataset_values, datasets, inspection

Reference = Callable[[ReferenceJob], Referenced]
REFERENCE_FEEDS = 4
"""Seeded random inputs of one reference; several, because one may hide a difference
(docs/models.md)."""


def tensors(plain: list[Any] | None) -> tuple[TensorSpec, ...]:
    """Inputs or outputs from their JSON in a row."""
    return tuple(codec.from_plain(TensorSpec, p) for p in plain or ())


@dataclass(frozen=True)
class SourceFile:
    """A model's file as a blob; ``name``: for messages; ``stored``: what it holds, in words, where
    that says more than its precision."""

    name: str
    format: str
    precision: str
    sha256: str
    path: Path
    stored: str = ""


@dataclass(frozen=True)
class CheckedDataset:
    """A data set as a blob, whose arrays were checked against each other and for values that cannot
    be meant. ``scoring``: what was declared of the task."""

    name: str
    path: Path
    arrays: DatasetArrays
    ref: DatasetRef
    scoring: Scoring | None = None

    @classmethod
    def of(
        cls, farm: FarmContext, name: str, sha256: str, scoring: Scoring | None
    ) -> CheckedDataset | None:
        """``None`` where none is given. Raises ``UserError``."""
        if not sha256:
            return None
        return cls.read(farm.inspect, farm.blobs.path(sha256), name, sha256, scoring)

    @classmethod
    def read(
        cls,
        inspect: Inspector,
        path: Path,
        name: str,
        sha256: str,
        scoring: Scoring | None = None,
    ) -> CheckedDataset:
        """Raises ``UserError``."""
        arrays = inspection.dataset_arrays(inspect, path, name)
        scored = scoring is None or scoring.task != NOT_SCORED
        dataset_values.require_usable(arrays.values, name, labels_are_used=scored)
        ref = datasets.dataset_ref(arrays.shapes, name, sha256, path)
        return cls(name, path, arrays, ref, scoring)


@dataclass(frozen=True)
class GivenInputs:
    """What somebody said of the inputs that the reference is computed on.

    Attributes:
        declared: input → what its values are drawn from.
        feeds: an .npz of feeds as a blob, checked; ``feeds_name``: for messages.
    """

    declared: Mapping[str, InputValues] = field(default_factory=dict)
    feeds: Path | None = None
    feeds_name: str = ""

    @classmethod
    def of(
        cls, farm: FarmContext, declared: Sequence[str], feeds_name: str, feeds_sha256: str
    ) -> GivenInputs:
        """Raises ``UserError``: a declaration of another form, or no .npz."""
        values = input_values.declared(declared)
        if not feeds_sha256:
            return cls(values)
        path = farm.blobs.path(feeds_sha256)
        inspection.array_shapes(farm.inspect, path, feeds_name)
        return cls(values, path, feeds_name)


NOTHING_GIVEN = GivenInputs()


@dataclass(frozen=True)
class ModelSource:
    """What is registered as the model. ``inputs`` have fixed shapes; ``feeds`` is their number in
    the reference. ``scoring``: the task that its accuracy is taken by; ``None``: the arg-max of its
    first output, or it has no data set."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    free_batch: bool
    details: dict[str, Any]
    reference: Path
    origin: str
    top1: float | None
    feeds: int
    scoring: Scoring | None = None


def read_source(
    inspect: Inspector,
    reference: Reference,
    name: str,
    file: SourceFile,
    shapes: Mapping[str, Sequence[int]],
    dataset: CheckedDataset | None,
    folder: str,
    given: GivenInputs = NOTHING_GIVEN,
) -> ModelSource:
    """Run the file once in a child process with its own runtime, which reports inputs and outputs.

    An ONNX file's inputs are read by ``inspect`` first. The reference outputs are in ``folder``.

    Raises:
        UserError: no reference can be computed, or the data set or what was given does not fit.
    """
    if dataset and given.declared and not given.feeds:
        raise UserError(
            f"--input {min(given.declared)}: the data set {dataset.name} gives all inputs; leave "
            "one of the two out"
        )
    if not FORMATS[file.format].backend:
        raise UserError(
            f"{file.name}: it gives no reference, for nothing but its accelerator runs it "
            f"({file.format}): register the file that it was made of first, then add this one"
        )
    model = ModelRef(
        *(name, file.format, file.sha256, file.path.stat().st_size, (), ()),
        precision=file.precision,
    )
    job = ReferenceJob(model, str(file.path), folder, feeds=REFERENCE_FEEDS)
    job = replace(
        job,
        declared=dict(given.declared),
        given=str(given.feeds) if given.feeds else None,
    )
    if dataset:
        job = replace(job, dataset=str(dataset.path), scoring=dataset.scoring)
    if file.format == "onnx":
        return _read_onnx(inspect, reference, file, job, shapes, dataset, given)
    job = replace(
        job,
        shapes={key: tuple(shape) for key, shape in shapes.items()},
        found=inspection.input_values(inspect, file.path, file.name, file.format),
    )
    referenced = _run_reference(reference, file, job, dataset, given)
    inputs = tuple(replace(i, shape=job.shapes.get(i.name, i.shape)) for i in referenced.inputs)
    if dataset:
        datasets.require_fit(dataset.arrays, dataset.name, inputs)
    free = all(own.shape[:1] == (-1,) for own in referenced.inputs)
    details: dict[str, Any] = {
        "precision": referenced.precision,
        **_values(referenced),
        **_data_set_details(referenced, dataset),
        **unlike_runs(referenced, {}),
    }
    if file.stored:
        details["stored"] = {file.format: file.stored}
    if file.format in inspection.GRAPHS:
        details["work"] = inspection.count_work(inspect, file.path, file.name, file.format, inputs)
    return ModelSource(
        inputs=inputs,
        outputs=referenced.outputs,
        free_batch=free and all(i.shape[0] == 1 for i in inputs) and _splits(referenced.outputs),
        details=details,
        reference=Path(referenced.path),
        origin=referenced.origin,
        top1=referenced.top1,
        feeds=referenced.feeds,
        scoring=None if referenced.usual else referenced.scoring,
    )


def _data_set_details(referenced: Referenced, dataset: CheckedDataset | None) -> dict[str, Any]:
    """What is to be shown of the task and the data set, and of what makes them doubtful."""
    remarks = list(referenced.remarks)
    details: dict[str, Any] = {}
    if dataset:
        remarks += dataset_values.remarks(dataset.arrays.values, dataset.arrays.shapes)
        details["dataset"] = dataset_values.described(dataset.arrays.values)
    if referenced.scoring:
        details["task"] = described_task(referenced.scoring)
    return {**details, "remarks": remarks} if remarks else details


def _read_onnx(
    inspect: Inspector,
    reference: Reference,
    file: SourceFile,
    job: ReferenceJob,
    shapes: Mapping[str, Sequence[int]],
    dataset: CheckedDataset | None,
    given: GivenInputs,
) -> ModelSource:
    inspected = inspection.onnx_facts(inspect, file.path, file.name, shapes)
    if dataset:
        datasets.require_fit(dataset.arrays, dataset.name, inspected.inputs)
    known = replace(job.model, inputs=inspected.inputs, precision=inspected.precision)
    job = replace(job, model=known, layouts=inspected.layouts, found=inspected.values)
    referenced = _run_reference(reference, file, job, dataset, given)
    return ModelSource(
        inputs=inspected.inputs,
        outputs=referenced.outputs,
        free_batch=inspected.free_batch and _splits(referenced.outputs),
        details={
            **inspected.details,
            **_values(referenced),
            **_data_set_details(referenced, dataset),
            **unlike_runs(referenced, inspected.random),
        },
        reference=Path(referenced.path),
        origin=referenced.origin,
        top1=referenced.top1,
        feeds=referenced.feeds,
        scoring=None if referenced.usual else referenced.scoring,
    )


def unlike_runs(referenced: Referenced, random: Mapping[str, str]) -> dict[str, Any]:
    """For a model's details: outputs that are no function of the inputs, each with how far two runs
    differ and, where the graph tells, by which operators."""
    found: dict[str, Any] = {}
    for kind in ("unrepeatable", "stateful"):
        words = getattr(referenced, kind)
        if words:
            found[kind] = {
                name: text + (f"; it depends on {random[name]}" if name in random else "")
                for name, text in words.items()
            }
    return found


def _values(referenced: Referenced) -> dict[str, Any]:
    """For ``model show``: input → how its values came about."""
    return {"values": {name: values.words for name, values in referenced.values.items()}}


def _splits(outputs: Sequence[TensorSpec]) -> bool:
    """Whether the outputs of a batch can be split: not where their sizes follow from the data."""
    return all(-1 not in output.shape for output in outputs)


def _run_reference(
    reference: Reference,
    file: SourceFile,
    job: ReferenceJob,
    dataset: CheckedDataset | None,
    given: GivenInputs,
) -> Referenced:
    referenced = reference(job)
    failure = referenced.failure
    if failure is None:
        return referenced
    at_fault = file.name
    if failure.kind == "bad_data" and not failure.message.startswith("--input"):
        at_fault = given.feeds_name or (dataset.name if dataset else file.name)
    message = f"{at_fault}: {failure_message(failure)}"
    if failure.kind == "crash" and not dataset and not given.feeds:
        # a runtime that does not check its indices ends the process, and nothing more is known
        message += (
            ". Its inputs were drawn: if whole numbers among them have a meaning, say it "
            "(--input NAME:range=LOW,HIGH), or give all inputs (--inputs FEEDS.npz)"
        )
    raise UserError(message)


_SELF_EXPLANATORY = (
    "bad_data",
    "bad_shape",
    "other_network",
    "runtime_missing",
    "environments",
    "bad_output",
)
"""Kinds of failure whose message needs no prefix."""


def failure_message(failure: Failure) -> str:
    """Why running a file failed, for people."""
    if failure.kind in _SELF_EXPLANATORY:
        return failure.message
    return f"the reference run failed ({failure.kind}): {failure.message}"
