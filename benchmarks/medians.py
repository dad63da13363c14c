"""One runtime's median latency: through our runner, bare, and by its vendor's tool.

Each in a process of its own, on the same file, input and number of threads, for the same time.
``litert-benchmark`` alone draws its own input.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.contract.child_jobs import TrialJob
from agent.contract.trial import (
    SCHEMA,
    Limits,
    Options,
    RuntimeRef,
    Scenario,
    Tolerance,
    TrialRequest,
    TrialResult,
)
from benchmarks.artifacts import Artifact, Files
from benchmarks.child import ask, output

HERE = Path(__file__).parent
OPTIONS: dict[str, Options] = {"openvino": {"performance_hint": "latency"}}
THREADS = 1
"""Two threads collapse as soon as anything else runs: that would be what is compared."""


@dataclass(frozen=True)
class Median:
    """In ns; ``runtime_ns``: as the runtime itself reports it. ``call``: what was timed."""

    caller_ns: float
    runtime_ns: float | None = None
    call: str = ""


def ours(python: str, backend: str, files: Files, artifact: Artifact, seconds: float) -> Median:
    """Through the runner, as in a trial. Raises ``SystemExit`` where the trial is not ok."""
    request = TrialRequest(
        schema=SCHEMA,
        attempt_id="benchmark",
        trial_id="benchmark",
        model=files.model,
        runtime=RuntimeRef(backend, threads=THREADS, options=OPTIONS.get(backend, {})),
        scenario=Scenario(min_duration_s=seconds, max_duration_s=seconds, target_relative_ci=1e-9),
        reference=files.reference,
        tolerance=Tolerance(0.99, 1.0),
        limits=Limits(trial_s=seconds),  # leaves no time for a second load, which is not compared
    )
    job = TrialJob(
        request,
        artifact=str(artifact.path),
        artifact_format=artifact.format,
        artifact_size_bytes=artifact.path.stat().st_size,
        reference=str(files.folder / "reference.npz"),
        folder=str(files.folder),
        own_inputs=artifact.own_inputs,
        own_outputs=artifact.own_outputs,
    )
    result = ask(python, "trial", job, TrialResult)
    if result.samples is None or result.status != "ok":
        raise SystemExit(f"{backend} on {files.name}: {result.status}, {result.failure}")
    samples = np.fromfile(files.folder / "samples.i64", dtype="<i8")
    medians = np.median(samples.reshape(len(result.samples.series), -1), axis=1)
    return Median(medians[0], medians[1] if len(medians) > 1 else None)


def bare(python: str, backend: str, artifact: Artifact, seconds: float) -> Median:
    """By ``bare/BACKEND.py``."""
    script = HERE / "bare" / "__main__.py"
    lines = output(python, script, backend, artifact.path, artifact.feed, THREADS, seconds)
    found = json.loads(lines[-1])
    return Median(found["caller"], found["runtime"], found["call"])


def benchmark_app(python: str, artifact: Artifact, seconds: float, _pilot: Median) -> Median:
    """OpenVINO's; what it reports is the runtime's own latency."""
    name = "input"
    lines = output(
        python,
        Path(python).parent / "benchmark_app",
        *("-m", artifact.path, "-i", f"{name}:{artifact.feed}"),
        # image-shaped inputs default to u8 there, with a conversion inside the timed part
        *("-ip", "f32", "-infer_precision", "f32"),
        *("-api", "sync", "-hint", "none", "-nthreads", THREADS, "-nstreams", 1),
        # whole seconds are all that it takes
        *("-t", max(1, round(seconds))),
    )
    for line in lines:
        found = re.search(r"Median:\s+([\d.]+) (ms|us)", line)
        if found:
            value = float(found.group(1)) * (1e6 if found.group(2) == "ms" else 1e3)
            return Median(value, value, "benchmark_app -api sync")
    raise SystemExit("benchmark_app printed no median:\n" + "\n".join(lines[-40:]))


def litert_benchmark(python: str, artifact: Artifact, seconds: float, pilot: Median) -> Median:
    """LiteRT's; it counts runs, not seconds, and warms up with five unless told."""
    lines = output(
        python,
        HERE / "vendor" / "litert_benchmark.py",
        f"--model={artifact.path}",
        f"--num_threads={THREADS}",
        f"--warmup_runs={max(5, int(0.3e9 / pilot.caller_ns))}",
        f"--num_runs={max(30, int(1e9 * seconds / pilot.caller_ns))}",
    )
    return Median(float(lines[-1]), call="litert-benchmark (on random input)")


def time_evaluator(python: str, artifact: Artifact, seconds: float, _pilot: Median) -> Median:
    """TVM's."""
    script = HERE / "vendor" / "tvm_time_evaluator.py"
    lines = output(python, script, artifact.path, artifact.feed, THREADS, seconds)
    return Median(float(lines[-1]), call="time_evaluator")
