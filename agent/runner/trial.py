"""Verb ``trial``: load, warm up, measure, verify, in that order, in this fresh process."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any, List

import numpy as np

from agent import __version__
from agent.contract import codec
from agent.contract.child_jobs import SO_FAR, TrialJob
from agent.contract.failures import BadRequest
from agent.contract.trial import SCHEMA, Phases, Samples, Scenario, TensorSpec, TrialResult
from agent.runner import accuracy, clock, fidelity, repeatability, scenarios, timing_loop
from agent.runner.artifact_paths import named
from agent.runner.feeds import batched_specs, batches, load_npz, load_reference, unbatched
from agent.runner.inference import infer
from agent.runner.loading import load, refusals
from agent.runner.process_metrics import MemoryMeter, UsageMeter, fingerprint
from agent.runner.progress import Progress
from agent.runner.tensor_mapping import TensorMapping
from agent.runtimes import registry
from agent.runtimes.backend import Backend, Feeds, RawSamples, SelfMeasured, Session

now_ns = time.perf_counter_ns


def run(job: TrialJob, progress: Progress) -> TrialResult:
    """Measure one artifact. When it raises, ``progress`` holds what is known so far."""
    request = job.request
    progress.enter("environment")
    if request.schema != SCHEMA:
        raise BadRequest("contract schema %d; this agent speaks %d" % (request.schema, SCHEMA))
    loop = scenarios.find_loop(request.scenario)  # refuses it before anything is loaded
    backend = registry.find_backend(request.runtime.backend)
    progress.known["artifact_size_bytes"] = job.artifact_size_bytes
    with progress.timing("import_s", now_ns):
        progress.known["runtime_version"] = backend.import_runtime()
    progress.known["clock"] = clock.characterise(now_ns, "perf_counter_ns")
    memory = MemoryMeter()

    progress.enter("load")
    specs = batched_specs(request.model.inputs, request.scenario.batch_size)
    mapping = TensorMapping(specs, request.model.outputs, job.own_inputs, job.own_outputs)
    session = _load(job, backend, mapping.specs(specs), progress, "load_cold_s")
    progress.known["placement"] = session.placement
    feeds = batches(load_reference(Path(job.reference), "input"), request.scenario.batch_size)
    session.bind(mapping.feed(feeds[0]))
    if isinstance(session, SelfMeasured):
        raw = _measure_by_tool(session, request.scenario, progress)
    else:
        with refusals(backend.name):
            _first_inference(session, progress)
        raw = _measure(session, loop, request.scenario, memory, progress)
    progress.known["samples"] = _write_samples(raw, Path(job.folder), request.scenario.batch_size)
    _keep(job, progress)

    progress.enter("verify")
    with progress.timing("verify_s", now_ns):
        _verify(job, session, mapping, specs, feeds, progress)
    _keep(job, progress)
    session.close()
    if not isinstance(session, SelfMeasured):  # its loads are all in fresh processes
        _load_again(job, backend, mapping.specs(specs), progress)
    return answer(job.request.attempt_id, "ok", progress)


def _first_inference(session: Session, progress: Progress) -> None:
    """It looks up kernels: some runtimes refuse a use of an operator only now."""
    with progress.timing("first_inference_ms", now_ns, 1e6):
        session.infer()


def _measure(
    session: Session,
    loop: scenarios.Loop,
    scenario: Scenario,
    memory: MemoryMeter,
    progress: Progress,
) -> RawSamples:
    """Warm up and run the timed loop in this process."""
    progress.enter("warm_up")
    progress.known["fingerprint_before"] = fingerprint()
    with progress.timing("warm_up_s", now_ns):
        pilot_ns = timing_loop.warm_up(session.infer, scenario.warm_up_s, now_ns)
    # Read before the loop: it runs nothing new, but the samples that it stores would count.
    progress.known["memory"] = memory.read()

    progress.enter("measure")
    usage = UsageMeter()
    with progress.timing("measure_s", now_ns):
        raw = loop(session, pilot_ns, scenario, progress.known["clock"], now_ns)
    progress.known["usage"] = usage.read()
    progress.known["fingerprint_after"] = fingerprint()
    return raw


def _measure_by_tool(session: SelfMeasured, scenario: Scenario, progress: Progress) -> RawSamples:
    """Let the session's tool measure: its clock and memory are reported, not this process's."""
    progress.known["clock"] = session.clock
    progress.known["fingerprint_before"] = fingerprint()
    progress.enter("measure")
    with progress.timing("measure_s", now_ns):
        raw = session.measured(scenario)
    progress.known["memory"] = session.tool_memory()
    progress.known["fingerprint_after"] = fingerprint()
    return raw


def answer(attempt_id: str, status: str, progress: Progress, **more: Any) -> TrialResult:
    """The result, with what ``progress`` knows so far and ``more`` fields of it."""
    phases = Phases(**progress.phases)
    known = {**progress.known, **more}
    return TrialResult(SCHEMA, attempt_id, status, __version__, phases=phases, **known)


def _keep(job: TrialJob, progress: Progress) -> None:
    """Write what is known to a file, for the parent: whatever ends this process from now on, the
    samples are taken. One that cannot be written does not stop the job."""
    path = Path(job.folder, SO_FAR)
    try:
        half = path.with_suffix(".half")
        half.write_text(codec.dumps(answer(job.request.attempt_id, "ok", progress)), "utf-8")
        half.replace(path)
    except OSError as error:
        sys.stderr.write("%s: %s\n" % (path, error))


def _load(
    job: TrialJob, backend: Backend, specs: List[TensorSpec], progress: Progress, phase: str
) -> Session:
    artifact = named(Path(job.artifact), job.artifact_format, Path(job.folder))
    with progress.timing(phase, now_ns):
        return load(backend, artifact, job.request.runtime, specs)


def _load_again(
    job: TrialJob, backend: Backend, specs: List[TensorSpec], progress: Progress
) -> None:
    """Time a second load in this process. It comes last, so that it affects no other figure, and is
    skipped where it could exceed the child's time limit and so cost the whole trial."""
    spent_s = sum(v for k, v in progress.phases.items() if v and k.endswith("_s"))
    expected_s = progress.phases["load_cold_s"] or 0.0
    if spent_s + 1.5 * expected_s > job.request.limits.trial_s:
        sys.stderr.write("no warm load: it could exceed limits.trial_s\n")
        return
    progress.enter("load")
    _load(job, backend, specs, progress, "load_warm_s").close()


def _write_samples(raw: RawSamples, folder: Path, batch_size: int) -> Samples:
    rows = [raw.caller_ns] if raw.runtime_ns is None else [raw.caller_ns, raw.runtime_ns]
    data = np.stack(rows).astype("<i8").tobytes()
    (folder / "samples.i64").write_bytes(data)
    return Samples(
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        count=len(raw.caller_ns),
        series=("caller", "runtime")[: len(rows)],
        encoding="i64",
        calls_per_sample=raw.calls_per_sample,
        batch_size=batch_size,
        stopped_by=raw.stopped_by,
        wall_s=raw.wall_ns / 1e9,
    )


def _verify(
    job: TrialJob,
    session: Session,
    mapping: TensorMapping,
    specs: List[TensorSpec],
    feeds: Feeds,
    progress: Progress,
) -> None:
    request = job.request
    expected = load_reference(Path(job.reference), "output")
    outputs = [infer(session, feed, mapping) for feed in feeds]
    actual = unbatched(outputs, request.scenario.batch_size, len(expected))
    actual, expected = repeatability.comparable(Path(job.reference), session, actual, expected)
    names = [spec.name for spec in request.model.outputs]
    wanted = request.dataset.scoring if request.dataset else None
    labelled = job.dataset is not None and not isinstance(session, SelfMeasured)
    if expected:
        progress.known["fidelity"] = fidelity.compare(
            actual,
            expected,
            request.tolerance,
            request.runtime.precision,
            accuracy.scored_output(wanted, request.model.outputs) if labelled else "",
        )
    else:
        sys.stderr.write("no fidelity: no output of this model can be compared\n")
    _keep(job, progress)
    if job.dataset is None:
        return
    if not labelled:
        sys.stderr.write("no accuracy: each sample would take a run of the tool\n")
        return
    data = load_npz(Path(job.dataset), ("inputs", "labels"))
    found = accuracy.of_cell(wanted, session, specs, data, mapping, names)
    if found is not None:
        progress.known["accuracy"] = accuracy.against_source(
            found, request.reference.top1, request.tolerance
        )
