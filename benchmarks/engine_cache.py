"""What a conversion costs that was made before, against the first time: real converters, in
processes of their own."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent.contract.child_jobs import ConvertJob, ReferenceJob
from agent.contract.trial import SCHEMA, RuntimeRef, Scenario, Tolerance, TrialRequest
from agent.worker.attempts.conversion import Conversion, ConversionInputs, ConversionRunner
from agent.worker.attempts.engine_cache import EngineCache
from agent.worker.environments.conversion_planning import plan
from agent.worker.environments.environments import Environments
from agent.worker.isolation.child_process import CancelRequest, ChildLimits
from agent.worker.isolation.runner_client import ChildOutcome as ChildOutcome
from agent.worker.isolation.runner_client import RunnerClient
from benchmarks.artifacts import Files
from benchmarks.interpreters import Missing, needed
from benchmarks.outcome import Outcome, of_rounds

ROUNDS = 3
HITS = 5
"""In a round, after one conversion."""
ALLOWED_S = 0.05


@dataclass(frozen=True)
class Case:
    """``name`` is also the environment's."""

    name: str
    model: str
    runtime: RuntimeRef


CASES = (
    Case("onnxruntime", "mobilenet_v2", RuntimeRef("onnxruntime", precision="int8")),
    Case("tvm", "digits_cnn", RuntimeRef("tvm")),
)


def measure() -> list[Outcome]:
    found = []
    for case in CASES:
        try:
            python = needed(case.name)
        except Missing as missing:
            print(f"engine_cache_{case.name} left out: {missing}", flush=True)
            continue
        with tempfile.TemporaryDirectory(prefix="benchfarm-engines-") as name:
            found.append(_of(case, python, Path(name)))
    return found


def _of(case: Case, python: str, folder: Path) -> Outcome:
    files = Files(case.model, folder / "model")
    request = TrialRequest(
        schema=SCHEMA,
        attempt_id="benchmark",
        trial_id="benchmark",
        model=files.model,
        runtime=case.runtime,
        scenario=Scenario(),
        reference=files.reference,
        tolerance=Tolerance(0.9, 1.0),
        calibration="random",
    )
    sources = ConversionInputs(files.onnx.path, files.folder / "reference.npz")
    runner = RunnerClient(mark="benchmark")
    environments = Environments(folder, runner.probe)
    environments.add(environments.check(case.runtime.backend, python))
    cold_s: list[float] = []
    hit_s: list[float] = []
    with CancelRequest() as cancel:
        run, check = partial(_child, runner, cancel), partial(_reference, runner, cancel)
        for turn in range(ROUNDS):
            engines = EngineCache(folder / f"engines{turn}", 1 << 34)
            conversion_runner = ConversionRunner(environments, engines, run, check, "benchmark")
            cold_s.append(_seconds(request, conversion_runner, sources, cached=False))
            hit_s += [
                _seconds(request, conversion_runner, sources, cached=True) for _ in range(HITS)
            ]
    return of_rounds(
        f"engine_cache_{case.name}",
        [s / ALLOWED_S for s in hit_s],
        at_most=1.0,
        compared=f"s to plan and convert {case.model} for {case.runtime.backend} "
        f"{case.runtime.precision} once more, over {ALLOWED_S} s; the first time took "
        f"{statistics.median(cold_s):.1f} s",
    )


def _reference(
    runner: RunnerClient,
    cancel: CancelRequest,
    python: str,
    job: ReferenceJob,
    folder: Path,
    bounds: ChildLimits,
) -> ChildOutcome:
    return runner.reference(python, job, folder, bounds, cancel)


def _child(
    runner: RunnerClient,
    cancel: CancelRequest,
    python: str,
    job: ConvertJob,
    folder: Path,
    bounds: ChildLimits,
) -> ChildOutcome:
    return runner.convert(python, job, folder, bounds, cancel)


def _seconds(
    request: TrialRequest,
    conversion_runner: ConversionRunner,
    sources: ConversionInputs,
    cached: bool,
) -> float:
    """What the worker does for an attempt between having its files and having its artifact."""
    start = time.perf_counter()
    environments = conversion_runner.environments
    facts = environments.facts_in(environments.resolve(request.runtime.backend))
    planned = plan(
        sources.model, request.model.format, request.runtime, facts, environments.tools()
    )
    done: Conversion = conversion_runner.convert(request, planned, sources)
    spent = time.perf_counter() - start
    if done.converted is None or done.converted.status != "ok" or done.cached != cached:
        raise SystemExit(f"the conversion should have been {'kept' if cached else 'made'}: {done}")
    return spent
