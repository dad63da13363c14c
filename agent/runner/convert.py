"""Verb ``convert``: from a source artifact to what a backend loads for a precision."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from agent.graph import Edge, Node, cheapest
from agent.jobs import Converted, ConvertJob
from agent.runner import backends, converters, formats, inputs
from agent.runner.backends.base import chosen, require_precision
from agent.runner.converters.base import (
    Calibration,
    Configurable,
    Converter,
    missing_modules,
)
from agent.runner.errors import CalibrationMissing, RuntimeMissing, UnsupportedFormat, listed
from agent.runner.procfs import tree_bytes
from agent.runner.stages import Progress, named

MAX_CALIBRATION = 300
RANDOM_CALIBRATION = 32
# The reference's feeds have the job's own seed: calibrating on them would flatter the result.
RANDOM_SEED_OFFSET = 0x5EED


def run(job: ConvertJob, progress: Progress) -> Converted:
    """Convert, or answer the source itself where the backend loads it as it is."""
    progress.enter("convert")
    start = time.perf_counter()
    source = formats.precision(job.model.format, Path(job.source))
    way = plan(job.runtime.backend, job.runtime.precision, job.model.format, source)
    if not way:
        size = tree_bytes(job.source)
        seconds = time.perf_counter() - start
        return Converted(job.source, job.model.format, size, (), seconds)
    folder = Path(job.folder).resolve()
    with _scratch(folder) as scratch:
        artifact, steps, output = _walk(job, way, folder, Path(scratch))
    seconds = time.perf_counter() - start
    target = way[-1].target[0]
    return Converted(str(artifact), target, tree_bytes(str(output)), tuple(steps), seconds)


def _walk(
    job: ConvertJob, way: Sequence[Edge], folder: Path, scratch: Path
) -> Tuple[Path, List[str], Path]:
    artifact, output = named(Path(job.source), job.model.format, scratch), folder
    runtime = job.runtime
    chosen(runtime.backend, backends.find(runtime.backend).options, runtime.options)  # or BadOption
    steps = []
    for number, edge in enumerate(way):
        converter = converters.find(edge.converter)
        if isinstance(converter, Configurable):
            converter.configure(job)
        feeds = calibration(job) if converter.needs_calibration else Calibration([], "")
        output = (folder if number == len(way) - 1 else scratch) / ("step%d" % (number + 1))
        shutil.rmtree(str(output), ignore_errors=True)
        output.mkdir(parents=True)
        made = converter.convert(artifact, output, feeds)
        artifact = made.artifact
        steps.append(made.step)
    return artifact, steps, output


def plan(
    backend: str, precision: str, source_format: str, source_precision: str = "fp32"
) -> Tuple[Edge, ...]:
    """The conversions that lead from the source to what the backend wants.

    Raises:
        UnsupportedPrecision, UnsupportedFormat: no converter could, installed or not.
        RuntimeMissing: one could, but is not installed here.
    """
    wants = backends.find(backend).wants
    require_precision(backend, precision, tuple(wants))
    known = {name: converters.find(name) for name in converters.names()}
    start: Node = (source_format, source_precision)
    way = cheapest(_edges(known, installed=True), start, wants[precision])
    if way is not None:
        return way
    way = cheapest(_edges(known, installed=False), start, wants[precision])
    if way is None:
        raise UnsupportedFormat(
            "no converter leads from %s in %s to %s in %s; %s accepts %s"
            % (
                source_format,
                source_precision,
                backend,
                precision,
                backend,
                listed(backends.find(backend).accepts),
            )
        )
    modules = [m for edge in way for m in missing_modules(known[edge.converter].modules)]
    raise RuntimeMissing(
        "converting %s to %s needs %s" % (source_format, precision, listed(modules)),
        "install it with pip install %s" % " ".join(modules),
    )


def reachable(backend: str) -> Tuple[str, ...]:
    """The precisions that the installed converters can bring any accepted source to."""
    known = {name: converters.find(name) for name in converters.names()}
    edges = _edges(known, installed=True)
    found = backends.find(backend)
    return tuple(
        precision
        for precision, wanted in found.wants.items()
        if any(
            cheapest(edges, (source, held), wanted) is not None
            for source in found.accepts
            for held in formats.precisions(source)
        )
    )


def _edges(known: Dict[str, Converter], installed: bool) -> List[Edge]:
    return [
        edge
        for converter in known.values()
        if not (installed and missing_modules(converter.modules))
        for edge in converter.edges
    ]


def calibration(job: ConvertJob) -> Calibration:
    """The feeds that the job says to calibrate on, of the source's own shapes.

    Raises:
        CalibrationMissing: none were named, or the data set is not there.
        BadData: the data set does not fit the model.
    """
    if job.calibration == "random":
        seed = job.seed + RANDOM_SEED_OFFSET
        feeds = inputs.seeded(job.model.inputs, seed, RANDOM_CALIBRATION)
        return Calibration(feeds, "calibrated on %d random inputs" % len(feeds))
    if job.calibration == "dataset" and job.dataset:
        samples = inputs.load_npz(Path(job.dataset), ("calibration",))["calibration"]
        samples = samples[:MAX_CALIBRATION]
        feeds = inputs.sample_feeds(samples, job.model.inputs, "calibration")
        return Calibration(feeds, "calibrated on %d samples of the data set" % len(samples))
    if job.calibration == "dataset":
        raise CalibrationMissing(
            "int8 is to be calibrated on the model's data set, but it has none;"
            " bind one, or choose calibration: random"
        )
    raise CalibrationMissing(
        "int8 needs calibration data; found %r, accepted: dataset, random" % job.calibration
    )


class _scratch:
    """A folder for everything temporary, made the process's own while it lasts."""

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
