"""OpenVINO through our runner against the vendor's ``benchmark_app`` on the same file and input."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TypeVar

import numpy as np

from agent import codec
from agent.contract import (
    SCHEMA,
    ModelRef,
    ReferenceRef,
    RuntimeRef,
    Scenario,
    TensorSpec,
    Tolerance,
    TrialRequest,
    TrialResult,
)
from agent.jobs import Referenced, ReferenceJob, TrialJob
from agent.worker.runner import RUNNER
from benchmarks.outcome import Outcome, of_rounds
from orchestrator.zoo import catalogue, emit_onnx

T = TypeVar("T")

ROUNDS = 21
SECONDS = 1
MODEL = "mobilenet_v2"


def measure() -> list[Outcome]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, reference = _prepare(folder)
        runtime, caller = [], []
        for turn in range(ROUNDS):
            # which goes first alternates: the machine's own drift must not favour one
            if turn % 2:
                theirs, ours = _theirs(folder), _ours(model, reference, folder)
            else:
                ours, theirs = _ours(model, reference, folder), _theirs(folder)
            caller.append(ours[0] / theirs)
            runtime.append(ours[1] / theirs)
    what = f"over benchmark_app -api sync -hint latency, medians on {MODEL} FP32, same input"
    bounds = {"at_least": 0.97, "at_most": 1.03}
    return [
        of_rounds(
            "openvino_runtime", runtime, compared=f"the runtime's own latency {what}", **bounds
        ),
        of_rounds("openvino_caller", caller, compared=f"the caller's latency {what}", **bounds),
    ]


def _prepare(folder: Path) -> tuple[ModelRef, ReferenceRef]:
    path = folder / f"{MODEL}.onnx"
    sha256 = emit_onnx.write(catalogue.load(MODEL), path)
    spec = TensorSpec("input", "float32", (1, 3, 224, 224))
    model = ModelRef(MODEL, "onnx", sha256, path.stat().st_size, (spec,), ())
    made = _child("reference", ReferenceJob(model, str(path), str(folder)), Referenced)
    assert made.failure is None, made.failure
    with np.load(made.path) as arrays:
        np.save(folder / "input.npy", arrays["input:input"][0])
    return model, ReferenceRef("", 0, 4, made.origin)


def _ours(model: ModelRef, reference: ReferenceRef, folder: Path) -> tuple[float, float]:
    """Medians in milliseconds: what the caller saw, what the runtime reports."""
    request = TrialRequest(
        schema=SCHEMA,
        attempt_id="benchmark",
        trial_id="benchmark",
        model=model,
        runtime=RuntimeRef("openvino", options={"performance_hint": "latency"}),
        scenario=Scenario(min_duration_s=SECONDS, max_duration_s=SECONDS, target_relative_ci=1e-9),
        reference=reference,
        tolerance=Tolerance(0.99, 1.0),
    )
    job = TrialJob(
        request,
        artifact=str(folder / f"{MODEL}.onnx"),
        artifact_format="onnx",
        artifact_size_bytes=model.size_bytes,
        reference=str(folder / "reference.npz"),
        folder=str(folder),
    )
    result = _child("trial", job, TrialResult)
    assert result.samples is not None, result.failure
    samples = np.fromfile(folder / "samples.i64", dtype="<i8")
    caller, runtime = samples.reshape(len(result.samples.series), -1)
    return float(np.median(caller)) / 1e6, float(np.median(runtime)) / 1e6


def _child(verb: str, job: object, answer: type[T]) -> T:
    command = [sys.executable, "-I", str(RUNNER), verb]
    ended = subprocess.run(
        command, input=codec.dumps(job).encode(), capture_output=True, check=True
    )
    return codec.loads(answer, ended.stdout)


def _theirs(folder: Path) -> float:
    """The median that ``benchmark_app`` prints, in milliseconds."""
    program = Path(sys.executable).parent / "benchmark_app"
    command = [str(program), "-m", str(folder / f"{MODEL}.onnx"), "-api", "sync"]
    command += ["-hint", "latency", "-t", str(SECONDS), "-infer_precision", "f32"]
    # image-shaped inputs default to u8 there, with a conversion inside the timed part
    command += ["-ip", "f32", "-i", f"input:{folder / 'input.npy'}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Median:\s+([\d.]+) ms", ended.stdout)
    if found is None:
        raise SystemExit(f"benchmark_app printed no median:\n{ended.stdout[-2000:]}")
    return float(found.group(1))
