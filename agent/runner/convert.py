"""Verb ``convert``: run a conversion path, or the part of it that belongs to this interpreter."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Sequence

from agent.contract.child_jobs import Converted, ConvertJob
from agent.contract.conversion_graph import Edge
from agent.contract.failures import (
    BadRequest,
    CalibrationMissing,
    RuntimeMissing,
    Unsupported,
    listed,
)
from agent.contract.trial import ModelRef
from agent.runner.artifact_paths import named
from agent.runner.conversion_check import check, checker
from agent.runner.feeds import load_npz, redrawn, sample_feeds, seeded
from agent.runner.process_metrics import tree_bytes
from agent.runner.progress import Progress
from agent.runner.tensor_mapping import TensorMapping
from agent.runtimes import registry
from agent.runtimes.converter import Calibration, Configurable, missing

MAX_CALIBRATION = 300
RANDOM_CALIBRATION = 32
# The reference's inputs have the job's seed: calibration on them would make the result look better.
RANDOM_SEED_OFFSET = 0x5EED


def run(job: ConvertJob, progress: Progress) -> Converted:
    """Run the converters of ``job.way`` below ``job.folder``, each in its own folder."""
    progress.enter("convert")
    start = time.perf_counter()
    if not job.way:
        raise BadRequest("there is no step to take: way is empty")
    folder = Path(job.folder).resolve()
    model, steps, found = job.model, [], ""
    with _scratch(folder) as scratch:
        artifact, output = named(Path(job.source), model.format, Path(scratch)), folder
        for number, edge in enumerate(job.way):
            last = number == len(job.way) - 1
            converter = registry.find_converter(edge.converter)
            _require_tools(edge.converter, missing(converter))
            if isinstance(converter, Configurable):
                converter.configure(replace(job, model=_own(model), folder=str(folder)))
            feeds = calibration(job, model) if converter.needs_calibration else Calibration([], "")
            output = (folder if last else Path(scratch)) / ("step%d" % (number + 1))
            shutil.rmtree(str(output), ignore_errors=True)
            output.mkdir(parents=True)
            made = converter.convert(artifact, output, feeds)
            artifact = made.artifact
            model = replace(
                model,
                format=edge.target[0],
                own_inputs=model.own_inputs if made.inputs is None else made.inputs,
                own_outputs=model.own_outputs if made.outputs is None else made.outputs,
            )
            trial_follows = last and job.runtime.backend  # it verifies, with its own tolerance
            found = "" if trial_follows else _checked(job, model, edge, artifact)
            steps.append(", ".join(word for word in (made.step, found) if word))
    return Converted(
        artifact=str(artifact),
        format=model.format,
        size_bytes=tree_bytes(str(output)),
        steps=tuple(steps),
        seconds=time.perf_counter() - start,
        inputs=model.own_inputs,
        outputs=model.own_outputs,
        checked=bool(found),
    )


def _checked(job: ConvertJob, model: ModelRef, edge: Edge, artifact: Path) -> str:
    """Compare the artifact with the reference; the result in words, empty where no runtime of this
    interpreter runs it. Raises ``OffReference``."""
    backend = checker(edge.target, job.runtime)
    if backend is None or job.reference is None:
        return ""
    try:
        return check(backend, model, edge.target, artifact, Path(job.reference), edge.converter)
    except Unsupported:
        return ""


def _own(model: ModelRef) -> ModelRef:
    """The model with its artifact's names and layouts and its own fixed shapes: what a converter
    gets to see."""
    mapping = TensorMapping(model.inputs, model.outputs, model.own_inputs, model.own_outputs)
    outputs = model.own_outputs or model.outputs
    specs = tuple(mapping.specs(model.inputs))
    return replace(model, inputs=specs, outputs=outputs, own_inputs=(), own_outputs=())


def _require_tools(name: str, lacking: Sequence[str]) -> None:
    if lacking:
        raise RuntimeMissing(
            "%s needs %s" % (name, listed(lacking)),
            "install it with pip install %s" % " ".join(lacking),
        )


def calibration(job: ConvertJob, model: ModelRef) -> Calibration:
    """The job's calibration data, with the names and layouts of ``model``'s artifact.

    Raises:
        CalibrationMissing: the job names none, or its data set is missing.
        BadData: the data set does not match the model.
    """
    mapping = TensorMapping(model.inputs, model.outputs, model.own_inputs, model.own_outputs)
    if job.calibration == "random":
        seed = job.seed + RANDOM_SEED_OFFSET
        if job.reference is None:
            feeds = seeded(model.inputs, seed, RANDOM_CALIBRATION)
        else:
            feeds = redrawn(model.inputs, seed, RANDOM_CALIBRATION, Path(job.reference))
        origin = "calibrated on %d random inputs" % len(feeds)
    elif job.calibration == "dataset" and job.dataset:
        samples = load_npz(Path(job.dataset), ("calibration",))["calibration"]
        samples = samples[:MAX_CALIBRATION]
        feeds = sample_feeds(samples, model.inputs, "calibration")
        origin = "calibrated on %d samples of the data set" % len(samples)
    elif job.calibration == "dataset":
        raise CalibrationMissing(
            "int8 is to be calibrated on the model's data set, but it has none;"
            " bind one, or choose calibration: random"
        )
    else:
        raise CalibrationMissing(
            "int8 needs calibration data; found %r, accepted: dataset, random" % job.calibration
        )
    return Calibration([mapping.feed(feed) for feed in feeds], origin)


class _scratch:
    """A temporary folder that is also this process's folder for temporary files meanwhile."""

    def __init__(self, folder: Path) -> None:
        self._parent = folder

    def __enter__(self) -> str:
        self._parent.mkdir(parents=True, exist_ok=True)
        self._before = tempfile.tempdir
        self._path = tempfile.mkdtemp(prefix="scratch-", dir=str(self._parent))
        tempfile.tempdir = self._path
        return self._path

    def __exit__(self, *_: object) -> None:
        tempfile.tempdir = self._before
        shutil.rmtree(self._path, ignore_errors=True)
