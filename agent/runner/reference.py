"""Verb ``reference``: the FP32 outputs that every cell is held against, and the source's top-1."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from agent.contract import Options, RuntimeRef, TensorSpec
from agent.jobs import Referenced, ReferenceJob
from agent.runner import backends, fidelity, inputs
from agent.runner.backends.base import Feed, Session
from agent.runner.errors import BadData, BadOutput, UnsupportedFormat, listed
from agent.runner.stages import Progress, named

# Who computes the reference of a source format, with nothing optimised away.
SOURCES: Dict[str, Tuple[str, Options, str]] = {
    "onnx": ("onnxruntime", {"graph_optimization": "disable"}, "graph optimisation off"),
    "pt2": ("pytorch", {"mode": "eager"}, "eager"),
    "tflite": ("tflite", {"kernels": "reference"}, "reference kernels"),
    **{
        form: ("tensorflow", {"grappler": "off"}, "grappler off")
        for form in ("keras", "h5", "savedmodel", "frozen_pb", "optimised_pb")
    },
}


def run(job: ReferenceJob, progress: Progress) -> Referenced:
    """Run the source and write ``folder``/reference.npz: ``input:NAME`` and ``output:NAME``."""
    if job.model.format not in SOURCES:
        raise UnsupportedFormat(
            "no reference for format %r; accepted: %s" % (job.model.format, listed(SOURCES))
        )
    name, options, how = SOURCES[job.model.format]
    backend = backends.find(name)
    version = backend.import_runtime()
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    progress.enter("load")
    artifact = named(Path(job.source), job.model.format, folder)
    runtime = RuntimeRef(backend=name, options=options)
    session = backend.load(artifact, runtime, job.model.inputs)
    progress.enter("measure")
    data = inputs.load_npz(Path(job.dataset), ("inputs", "labels")) if job.dataset else None
    feeds = _feeds(job, data)
    outputs = [infer(session, feed) for feed in feeds]
    _require_finite(outputs)
    top1 = score(session, job.model.inputs, data) if data is not None else None
    session.close()
    path = folder / "reference.npz"
    arrays: Dict[str, Any] = {"input:" + n: np.stack([f[n] for f in feeds]) for n in feeds[0]}
    arrays.update({"output:" + n: np.stack([o[n] for o in outputs]) for n in outputs[0]})
    np.savez(str(path), **arrays)
    specs = tuple(TensorSpec(n, str(a.dtype), a.shape) for n, a in outputs[0].items())
    return Referenced(str(path), specs, "%s %s, %s" % (name, version, how), top1)


def _feeds(job: ReferenceJob, data: Any) -> inputs.Feeds:
    if job.feeds < 1:
        raise BadData("a reference needs at least 1 feed, not %d" % job.feeds)
    if data is None:
        return inputs.seeded(job.model.inputs, job.seed, job.feeds)
    feeds = inputs.sample_feeds(data["inputs"], job.model.inputs, "inputs")
    return feeds[: job.feeds]


def infer(session: Session, feed: Feed) -> Dict[str, Any]:
    session.bind(feed)
    session.infer()
    return session.read()


def score(session: Session, specs: Any, data: Any) -> float:
    """Top-1 of a session on a labelled data set's ``inputs`` and ``labels``."""
    samples, labels = data["inputs"], data["labels"]
    if len(samples) != len(labels):
        raise BadData("%d samples but %d labels" % (len(samples), len(labels)))
    first = session.outputs[0].name
    feeds = inputs.sample_feeds(samples, specs, "inputs")
    return fidelity.top1([infer(session, feed)[first] for feed in feeds], labels)


def _require_finite(outputs: List[Dict[str, Any]]) -> None:
    for output in outputs:
        for name, array in output.items():
            if not np.isfinite(np.asarray(array, dtype=np.float64)).all():
                raise BadOutput("the source model's own output %s holds NaN or infinity" % name)
