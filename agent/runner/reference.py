"""Verb ``reference``: compute the FP32 outputs that every cell is compared with, and the source's
top-1; or check that a file that joins a model computes the same outputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from agent.contract.child_jobs import Referenced, ReferenceJob
from agent.contract.comparison import described
from agent.contract.failures import (
    BadModel,
    BadOutput,
    OtherNetwork,
    UnsupportedFormat,
    UnsupportedShape,
    listed,
)
from agent.contract.trial import Fidelity, RuntimeRef, TensorSpec
from agent.formats.tflite import NotTflite
from agent.runner import accuracy, criteria, fidelity, reference_inputs, repeatability
from agent.runner.artifact_paths import named
from agent.runner.feeds import load_npz, load_reference, save_reference
from agent.runner.inference import infer
from agent.runner.loading import load, refusals
from agent.runner.progress import Progress
from agent.runner.tensor_mapping import TensorMapping
from agent.runner.tensor_matching import fixed, paired
from agent.runtimes import registry
from agent.runtimes.backend import Backend, Feeds, Session
from agent.runtimes.formats import FORMATS, precision
from agent.runtimes.manifest import Format

_QUANTISED = ("int8", "uint8", "int16")
_NOTHING = accuracy.SourceAccuracy()


class _Source(NamedTuple):
    """A file, and the backend that computes its reference, with optimisations off."""

    artifact: Path
    precision: str
    backend: Backend
    runtime: RuntimeRef
    origin: str

    def load(self, specs: Sequence[TensorSpec] = ()) -> Session:
        return load(self.backend, self.artifact, self.runtime, specs)


def run(job: ReferenceJob, progress: Progress) -> Referenced:
    """Run the source and write ``folder``/reference.npz with ``input:NAME`` and ``output:NAME``; a
    source that joins a model is compared with that model's reference instead."""
    source = _source(job, progress)
    if job.expected is not None:
        return _joined(job, source, Path(job.expected), progress)
    session, own = _loaded(job, source)
    progress.enter("measure")
    data = load_npz(Path(job.dataset), ("inputs", "labels")) if job.dataset else None
    inputs = reference_inputs.of_job(job, session, data)
    with refusals(source.backend.name):
        outputs = reference_inputs.run(session, inputs)
    _require_finite(outputs)
    if job.again is not None:
        return _again(Path(job.again), outputs)
    apart = repeatability.observe(session, inputs.feeds, outputs)
    remarks = _unchanging(inputs.feeds, outputs)
    found = accuracy.of_source(job.scoring, session, data) if data is not None else _NOTHING
    layouts = {spec.name: spec.layout for spec in _with_layouts(job, session.outputs)}
    session.close()
    path = Path(job.folder) / "reference.npz"
    save_reference(path, inputs.feeds, outputs, inputs.values)
    repeatability.mark(path, apart)
    specs = tuple(
        TensorSpec(n, str(outputs[0][n].dtype), shape, layouts.get(n, ""))
        for n, shape in reference_inputs.shapes(outputs).items()
    )
    return Referenced(
        str(path),
        specs,
        source.origin,
        found.top1,
        inputs=tuple(own),
        precision=source.precision,
        feeds=len(outputs),
        values=inputs.values,
        scoring=found.scoring,
        usual=found.usual,
        remarks=(*remarks, *found.remarks),
        unrepeatable=apart.unrepeatable,
        stateful=apart.stateful,
    )


def _again(first: Path, outputs: Feeds) -> Referenced:
    """Compare with the reference that another process wrote, and mark in it what differs."""
    apart = repeatability.differences(load_reference(first, "output"), outputs)
    repeatability.mark(first, repeatability.Observed(apart, {}))
    return Referenced(str(first), unrepeatable=apart)


def _unchanging(feeds: Feeds, outputs: Feeds) -> List[str]:
    """What to say of outputs that do not depend on the inputs."""
    same = criteria.unchanging(outputs)
    if not same:
        return []
    if not any(name not in criteria.unchanging(feeds) for name in feeds[0]):
        return ["the %d inputs of the reference are all the same: they prove little" % len(feeds)]
    if len(same) == len(outputs[0]):
        return [
            "no output depends on the inputs: for all %d inputs of the reference %s is the same,"
            " and that a runtime gives it, too, proves little" % (len(feeds), listed(same))
        ]
    return ["output %s is the same for all %d inputs of the reference" % (listed(same), len(feeds))]


def _source(job: ReferenceJob, progress: Progress) -> _Source:
    form = FORMATS.get(job.model.format)
    if form is None or not form.backend:
        known = listed(name for name, f in FORMATS.items() if f.backend)
        raise UnsupportedFormat(
            "no reference for format %r; accepted: %s" % (job.model.format, known)
        )
    backend = registry.find_backend(form.backend)
    version = backend.import_runtime()
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    progress.enter("load")
    artifact = named(Path(job.source), form.name, folder)
    stored = job.model.precision or _precision(form, artifact)
    # The outputs of a quantised file are its reference: it holds no finer values.
    how = [form.how, "" if stored == "fp32" else "%s file" % stored]
    return _Source(
        artifact,
        stored,
        backend,
        RuntimeRef(backend=form.backend, precision=stored, options=form.options),
        ", ".join(word for word in ["%s %s" % (form.backend, version), *how] if word),
    )


def _precision(form: Format, artifact: Path) -> str:
    try:
        return precision(form.name, artifact)
    except (NotTflite, FileNotFoundError) as error:
        raise BadModel("%s is not a TFLite model: %s" % (artifact.name, error)) from error


def _loaded(job: ReferenceJob, source: _Source) -> Tuple[Session, Sequence[TensorSpec]]:
    """A session on inputs of fixed shapes, and the file's own inputs as it declares them."""
    if job.model.inputs:
        return source.load(job.model.inputs), job.model.inputs
    session = source.load()
    own = _with_layouts(job, session.inputs)
    wanted = fixed(own, job.shapes)
    if source.precision == "int8" and any(s.dtype in _QUANTISED for s in own):
        # Inputs, like outputs, are real values where the file has a scale for its quantised ones.
        real = [replace(s, dtype="float32") if s.dtype in _QUANTISED else s for s in wanted]
        try:
            again = source.load(real)
        except UnsupportedShape:
            pass
        else:
            session.close()
            return again, [replace(s, shape=o.shape) for s, o in zip(real, own)]  # noqa: B905
    if any(-1 in spec.shape for spec in own):
        session.close()
        session = source.load(wanted)
    return session, own


def _with_layouts(job: ReferenceJob, specs: Sequence[TensorSpec]) -> List[TensorSpec]:
    """The session's tensors, with the job's layouts where the session knows none."""
    return [
        replace(s, layout=s.layout or job.layouts.get(s.name, "")) if len(s.shape) == 4 else s
        for s in specs
    ]


def _joined(job: ReferenceJob, source: _Source, expected: Path, progress: Progress) -> Referenced:
    """Compare the source's outputs on the model's reference inputs with the model's outputs.

    Raises:
        OtherNetwork: inputs, outputs or values differ; names the first output that does.
    """
    model = job.model
    session = source.load()
    own_inputs = paired("input", model.inputs, _with_layouts(job, session.inputs))
    if _differ(own_inputs, session.inputs):
        session.close()
        session = source.load(own_inputs)
    own_outputs = paired("output", model.outputs, _with_layouts(job, session.outputs))
    mapping = TensorMapping(model.inputs, model.outputs, own_inputs, own_outputs)
    progress.enter("verify")
    feeds = load_reference(expected, "input")
    wanted = load_reference(expected, "output")
    given = [infer(session, feed, mapping) for feed in feeds]
    comparable = repeatability.comparable(expected, session, given, wanted)
    session.close()
    return Referenced(
        origin=source.origin,
        inputs=tuple(own_inputs),
        outputs=tuple(own_outputs),
        precision=source.precision,
        fidelity=_compared(job, source, *comparable) if comparable[0] else None,
    )


def _differ(wanted: Sequence[TensorSpec], own: Sequence[TensorSpec]) -> bool:
    return {(s.name, s.dtype, s.shape) for s in wanted} != {(s.name, s.dtype, s.shape) for s in own}


def _compared(job: ReferenceJob, source: _Source, given: Feeds, wanted: Feeds) -> Fidelity:
    tolerance = job.tolerances[source.precision]
    for name in wanted[0]:
        one = fidelity.compare(
            [_only(g, name) for g in given],
            [_only(w, name) for w in wanted],
            tolerance,
            source.precision,
        )
        if not one.passed:
            raise OtherNetwork(
                "output %s is off on the model's own reference inputs, for a file in %s: %s"
                % (name, source.precision, described(one.checks[0]))
            )
    return fidelity.compare(given, wanted, tolerance, source.precision)


def _only(values: Dict[str, Any], name: str) -> Dict[str, Any]:
    return {name: values[name]}


def _require_finite(outputs: List[Dict[str, Any]]) -> None:
    for output in outputs:
        for name, array in output.items():
            if not np.isfinite(np.asarray(array, dtype=np.float64)).all():
                raise BadOutput("the source model's own output %s holds NaN or infinity" % name)
