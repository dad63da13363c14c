"""A trial request, and the agent's services around a fake runner."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.contract.child_jobs import Converted, ConvertJob, Probed, TrialJob
from agent.contract.conversion_graph import Edge, Node, Tool
from agent.contract.device import RuntimeFacts
from agent.contract.trial import (
    SCHEMA,
    Limits,
    ModelRef,
    ReferenceRef,
    RuntimeRef,
    Samples,
    Scenario,
    TensorSpec,
    Tolerance,
    TrialRequest,
    TrialResult,
)
from agent.worker.attempts.attempt import AttemptServices
from agent.worker.attempts.engine_cache import EngineCache
from agent.worker.environments.environments import Environments
from agent.worker.errors import BlobMissing
from agent.worker.isolation.child_process import CancelRequest, ChildEnd, ChildLimits
from agent.worker.isolation.runner_client import ChildOutcome, RunnerClient
from agent.worker.uplink.blob_cache import BlobCache

MODEL = b"a model"
REFERENCE = b"a reference"
ENDED = ChildEnd(0, "", "", "{}", "", "", 1.5)


TOOL = Tool("tool", (Edge("tool", ("onnx", "fp32"), ("ort", "fp32")),), options={"depth": ()})
QUANTISER = Tool(
    "quantiser", (Edge("quantiser", ("onnx", "fp32"), ("ort", "int8")),), needs_calibration=True
)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_request() -> TrialRequest:
    tensor = TensorSpec("x", "float32", (1, 4))
    return TrialRequest(
        schema=SCHEMA,
        attempt_id="a1",
        trial_id="t1",
        model=ModelRef("m", "onnx", sha(MODEL), len(MODEL), (tensor,), (tensor,)),
        runtime=RuntimeRef("onnxruntime", threads=2),
        scenario=Scenario(),
        reference=ReferenceRef(sha(REFERENCE), len(REFERENCE), 1, "test"),
        tolerance=Tolerance(0.99, 0.01),
        limits=Limits(convert_s=7.0, trial_s=9.0, memory_mib=500),
    )


@dataclass
class Clock:
    """A clock that advances when a child runs."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeRunner(RunnerClient):
    """Replaces the child process: the test sets its answers, its jobs are recorded."""

    clock: Clock
    convert_outcome: Callable[[ConvertJob], ChildOutcome] | None = None
    trial_outcome: Callable[[TrialJob], ChildOutcome] | None = None
    converts: list[ConvertJob] = field(default_factory=list)
    trials: list[tuple[str, TrialJob, ChildLimits]] = field(default_factory=list)

    def probe(self, python: str) -> Probed:
        """A runtime that does not load the model's format, and converters to the one it loads."""
        wants: dict[str, tuple[Node, ...]] = {
            "fp32": (("ort", "fp32"),),
            "int8": (("ort", "int8"),),
        }
        options: dict[str, tuple[str, ...]] = {"graph": ("all", "none")}
        facts = RuntimeFacts("onnxruntime", "1.31.1", "", options=options, wants=wants)
        return Probed((facts,), (TOOL, QUANTISER))

    def convert(
        self, python: str, job: ConvertJob, folder: Path, bounds: ChildLimits, cancel: CancelRequest
    ) -> ChildOutcome:
        self.converts.append(job)
        if self.convert_outcome is not None:
            return self.convert_outcome(job)
        made = Path(job.folder) / "step1" / "model.ort"
        made.parent.mkdir()
        made.write_bytes(Path(job.source).read_bytes() + b" converted")
        return ChildOutcome(ENDED, answer=Converted(str(made), "ort", 17, ("tool 1.0",), 1.0))

    def trial(
        self, python: str, job: TrialJob, folder: Path, bounds: ChildLimits, cancel: CancelRequest
    ) -> ChildOutcome:
        self.trials.append((python, job, bounds))
        self.clock.now += 2
        if self.trial_outcome is not None:
            return self.trial_outcome(job)
        assert Path(job.artifact).exists()
        (folder / "samples.i64").write_bytes(bytes(8 * 2 * 50))
        return ChildOutcome(replace(ENDED, duration_s=2.0), answer=measured(count=50))


def measured(count: int, status: str = "ok") -> TrialResult:
    samples = Samples("", 0, count, ("caller", "runtime"), "int64le", 1, 1, "precision", 1.0)
    return TrialResult(SCHEMA, "a1", status, "?", samples=samples, runtime_version="1.31.1")


@dataclass
class Board:
    """An attempt's services, and the blobs that the controller serves."""

    services: AttemptServices
    runner: FakeRunner
    served: dict[str, bytes]


def make_board(tmp_path: Path) -> Board:
    served = {sha(MODEL): MODEL, sha(REFERENCE): REFERENCE}

    @contextlib.contextmanager
    def open_blob(sha256: str, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        if sha256 not in served:
            raise BlobMissing(f"no blob {sha256}")
        yield offset, iter([served[sha256][offset:]])

    clock = Clock()
    runner = FakeRunner(clock)
    (tmp_path / "samples").mkdir()
    services = AttemptServices(
        blobs=BlobCache(tmp_path / "blobs", 1 << 30),
        engines=EngineCache(tmp_path / "engines", 1 << 30),
        environments=Environments(tmp_path, runner.probe, "/usr/bin/python3"),
        runner=runner,
        open_blob=open_blob,
        fingerprint="x86_64 test",
        samples_dir=tmp_path / "samples",
        clock=clock,
    )
    return Board(services, runner, served)
