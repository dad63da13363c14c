"""Verb ``reference``: compute the FP32 outputs that every cell is compared with, and the source's
top-1; or check that a file that joins a model computes the same outputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from agent.contract.child_jobs import Referenced, ReferenceJob
from agent.contract.failures import (
    BadData,
    BadModel,
    BadOutput,
    OtherNetwork,
    UnsupportedFormat,
    UnsupportedShape,
    listed,
)
from agent.contract.trial import Fidelity, RuntimeRef, TensorSpec
from agent.formats.tflite import NotTflite
from agent.runner import fidelity
from agent.runner.artifact_paths import named
from agent.runner.feeds import load_npz, load_reference, sample_feeds, seeded
from agent.runner.loading import load, refusals
from agent.runner.progress import Progress
from agent.runner.tensor_mapping import TensorMapping
from agent.runner.tensor_matching import fixed, paired
from agent.runtimes import registry
from agent.runtimes.backend import Backend, Feed, Feeds, Session
from agent.runtimes.formats import FORMATS, precision
from agent.runtimes.manifest import Format

_QUANTISED = ("int8", "uint8", "int16")


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
    feeds = _feeds(job, session.inputs, data)
    with refusals(source.backend.name):
        outputs = [infer(session, feed) for feed in feeds]
    _require_finite(outputs)
    top1 = score(session, session.inputs, data) if data is not None else None
    layouts = {spec.name: spec.layout for spec in _with_layouts(job, session.outputs)}
    session.close()
    path = Path(job.folder) / "reference.npz"
    arrays: Dict[str, Any] = {"input:" + n: np.stack([f[n] for f in feeds]) for n in feeds[0]}
    arrays.update({"output:" + n: np.stack([o[n] for o in outputs]) for n in outputs[0]})
    np.savez(str(path), **arrays)
    specs = tuple(
        TensorSpec(n, str(a.dtype), a.shape, layouts.get(n, "")) for n, a in outputs[0].items()
    )
    return Referenced(
        str(path), specs, source.origin, top1, inputs=tuple(own), precision=source.precision
    )


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
    stored = _precision(form, artifact)
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
    session.close()
    return Referenced(
        origin=source.origin,
        inputs=tuple(own_inputs),
        outputs=tuple(own_outputs),
        precision=source.precision,
        fidelity=_compared(job, source, given, wanted),
    )


def _differ(wanted: Sequence[TensorSpec], own: Sequence[TensorSpec]) -> bool:
    return {(s.name, s.dtype, s.shape) for s in wanted} != {(s.name, s.dtype, s.shape) for s in own}


def _compared(job: ReferenceJob, source: _Source, given: Feeds, wanted: Feeds) -> Fidelity:
    tolerance = job.tolerances[source.precision]
    for name in wanted[0]:
        one = fidelity.compare(
            [_only(g, name) for g in given], [_only(w, name) for w in wanted], tolerance
        )
        if not one.passed:
            raise OtherNetwork(
                "output %s is off: cosine %.5f, largest difference %.3g of the output's range, on"
                " the model's own reference inputs (accepted at %s: cosine %g or more)"
                % (name, one.cosine, one.max_rel, source.precision, tolerance.min_cosine)
            )
    return fidelity.compare(given, wanted, tolerance)


def _only(values: Dict[str, Any], name: str) -> Dict[str, Any]:
    return {name: values[name]}


def _feeds(job: ReferenceJob, specs: Sequence[TensorSpec], data: Any) -> Feeds:
    if job.feeds < 1:
        raise BadData("a reference needs at least 1 feed, not %d" % job.feeds)
    if data is None:
        return seeded(specs, job.seed, job.feeds)
    feeds = sample_feeds(data["inputs"], specs, "inputs")
    return feeds[: job.feeds]


def infer(session: Session, feed: Feed, mapping: Optional[TensorMapping] = None) -> Dict[str, Any]:
    """Outputs of one inference on the model's ``feed``, mapped to the artifact and back by
    ``mapping`` where there is one."""
    session.bind(mapping.feed(feed) if mapping else feed)
    session.infer()
    outputs = session.read()
    return mapping.outputs(outputs) if mapping else outputs


def score(
    session: Session, specs: Any, data: Any, mapping: Optional[TensorMapping] = None
) -> float:
    """Top-1 of a session on a labelled data set's ``inputs`` and ``labels``.

    Args:
        specs: the model's inputs, in the shapes of the data set's samples.
    """
    samples, labels = data["inputs"], data["labels"]
    if len(samples) != len(labels):
        raise BadData("%d samples but %d labels" % (len(samples), len(labels)))
    feeds = sample_feeds(samples, specs, "inputs")
    outputs = [infer(session, feed, mapping) for feed in feeds]
    return fidelity.top1([next(iter(output.values())) for output in outputs], labels)


def _require_finite(outputs: List[Dict[str, Any]]) -> None:
    for output in outputs:
        for name, array in output.items():
            if not np.isfinite(np.asarray(array, dtype=np.float64)).all():
                raise BadOutput("the source model's own output %s holds NaN or infinity" % name)
