"""A farm with a real database and blobs, recorded doorbells, and a clock that the test moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import zstandard
from sqlalchemy import func, select

from agent.contract.api_messages import Enrolled, Enrolment, Heartbeat, HeartbeatAnswer
from agent.contract.conversion_graph import Edge, Tool
from agent.contract.device import DeviceFacts, RuntimeFacts, TargetFacts
from agent.contract.trial import SCHEMA, Failure, Fidelity, Phases, Samples, TrialResult
from orchestrator.service.context import FarmContext
from orchestrator.service.devices import registration
from orchestrator.service.models.registration import NewModel, add
from orchestrator.service.scheduling import ingest
from orchestrator.service.sweeps import sweeps
from orchestrator.service.views import ModelView, SweepView
from orchestrator.settings import Settings
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.database import Database
from orchestrator.store.tables import Attempt, Base, Device, Trial
from support import onnx_files
from support.inspectors import inspect
from support.references import reference

START = datetime(2025, 3, 30, 0, 59, 30, tzinfo=UTC)
"""Half a minute before Europe's clocks jump: a local time anywhere in the code would show."""

AGENT_VERSION = "0.1.0"
BROKER_URL = "redis://broker.invalid:6379/0"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: datetime = START) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class DoorbellRecorder:
    """Records the doorbells that are published; raises ``error`` instead where it is set."""

    published: list[tuple[str, str]] = field(default_factory=list)
    error: Exception | None = None

    def __call__(self, device: str, attempt_id: str) -> None:
        if self.error is not None:
            raise self.error
        self.published.append((device, attempt_id))


def runtime_facts() -> tuple[RuntimeFacts, ...]:
    """Plausible answers of the shipped backends on a laptop without PyTorch."""
    cpu = (TargetFacts("CPU", ("fp32", "int8")),)
    return (
        RuntimeFacts(
            "onnxruntime", "1.31.1", "builtin", cpu, ("onnx",),
            options={"graph_optimization": ("all", "disabled")},
            wants={p: (("onnx", p),) for p in ("fp32", "int8")},
        ),
        RuntimeFacts(
            "openvino", "2026.4.1", "builtin", (TargetFacts("CPU", ("fp32", "fp16", "int8")),),
            ("onnx",), options={"performance_hint": ("latency", "throughput"), "tag": ()},
            wants={
                "fp32": (("onnx", "fp32"),),
                **{p: (("openvino_ir", p),) for p in ("fp16", "int8")},
            },
        ),
        RuntimeFacts("pytorch", "", "", missing="torch is not installed"),
    )  # fmt: skip


TOOLS = (
    Tool(
        "onnxruntime_quantize",
        (Edge("onnxruntime_quantize", ("onnx", "fp32"), ("onnx", "int8"), 1.0, "builtin"),),
        "builtin",
        needs_calibration=True,
        options={"per_channel": ("on", "off")},
    ),
    Tool(
        "nncf_quantize",
        (Edge("nncf_quantize", ("onnx", "fp32"), ("openvino_ir", "int8"), 1.0, "builtin"),),
        "builtin",
        needs_calibration=True,
    ),
    Tool(
        "openvino_fp16",
        (Edge("openvino_fp16", ("onnx", "fp32"), ("openvino_ir", "fp16"), 1.0, "builtin"),),
        "builtin",
    ),
    Tool(
        "torch_onnx",
        (Edge("torch_onnx", ("pt2", "fp32"), ("onnx", "fp32"), 1.0, "builtin"),),
        "builtin",
        missing=("torch", "onnxscript"),
    ),
)


def device_facts(
    name: str = "board", runtimes: tuple[RuntimeFacts, ...] | None = None
) -> DeviceFacts:
    return DeviceFacts(
        hostname=name,
        machine="x86_64",
        system="Linux 6.1",
        python="3.11.2",
        cpu_model="Intel(R) Core(TM) i7-1185G7",
        cpu_count=8,
        isa=("avx2",),
        memory_mib=15868.0,
        runtimes=runtime_facts() if runtimes is None else runtimes,
        tools=TOOLS,
    )


@dataclass
class FarmKit:
    """A farm, and shortcuts for what the tests do with it."""

    farm: FarmContext
    clock: Clock
    doorbells: DoorbellRecorder

    # --- devices

    def enrol(self, name: str, facts: DeviceFacts | None = None, **tags: str) -> Enrolled:
        joined = registration.join_token(self.farm, name, tags=tags)
        enrolment = Enrolment(joined.join_token, name, AGENT_VERSION, facts or device_facts(name))
        return registration.enrol(self.farm, enrolment, BROKER_URL)

    def device(self, name: str = "board", facts: DeviceFacts | None = None, **tags: str) -> int:
        """An enrolled device that has just beaten; its id."""
        self.enrol(name, facts, **tags)
        device_id = self.device_id(name)
        self.beat(device_id)
        return device_id

    def device_id(self, name: str) -> int:
        with self.farm.database.transaction() as session:
            return session.scalars(select(Device.id).where(Device.name == name)).one()

    def beat(self, device_id: int, attempt_id: str = "") -> HeartbeatAnswer:
        return ingest.record_heartbeat(self.farm, device_id, Heartbeat(AGENT_VERSION, attempt_id))

    # --- models and sweeps

    def add_model(self, name: str = "dense", data: bytes | None = None) -> ModelView:
        sha256 = self.farm.blobs.put(onnx_files.dense_bytes() if data is None else data)
        return add(self.farm, NewModel(name, f"{name}.onnx", sha256))

    def submit(
        self, name: str = "first", trials: int = 1, attempts: int = 3, **more: str
    ) -> SweepView:
        return sweeps.submit(self.farm, spec_text(name, trials, attempts, **more), "sweep.yaml")

    # --- attempts

    def attempts(self) -> list[Attempt]:
        with self.farm.database.transaction() as session:
            query = select(Attempt).order_by(Attempt.trial_id, Attempt.number)
            return list(session.scalars(query))

    def attempt(self, attempt_id: str) -> Attempt:
        with self.farm.database.transaction() as session:
            return session.get_one(Attempt, attempt_id)

    def trials(self) -> list[Trial]:
        with self.farm.database.transaction() as session:
            return list(session.scalars(select(Trial).order_by(Trial.sweep_id, Trial.place)))

    def states(self) -> list[str]:
        return [t.state for t in self.trials()]

    def last_rung(self) -> str:
        return self.doorbells.published[-1][1]

    def give(self, device_id: int, result: TrialResult) -> None:
        ingest.accept_result(self.farm, device_id, result.attempt_id, result)

    def ok(self, attempt_id: str, nanoseconds: Sequence[int] = (1000, 1100, 1050)) -> TrialResult:
        """A result with its samples uploaded."""
        data = np.asarray(nanoseconds, dtype="<i8")
        blob = zstandard.ZstdCompressor().compress(data.tobytes())
        samples = Samples(
            sha256=self.farm.blobs.put(blob),
            size_bytes=len(blob),
            count=len(nanoseconds),
            series=("caller",),
            encoding="int64le+zstd",
            calls_per_sample=1,
            batch_size=1,
            stopped_by="precision",
            wall_s=1.0,
        )
        phases = Phases(measure_s=1.0, total_s=4.5)
        return TrialResult(SCHEMA, attempt_id, "ok", AGENT_VERSION, phases, samples=samples)

    # --- stored data

    def rows(self) -> dict[str, int]:
        """Table name → number of rows."""
        with self.farm.database.transaction() as session:
            return {
                table.name: session.scalar(select(func.count()).select_from(table)) or 0
                for table in Base.metadata.sorted_tables
            }

    def blobs(self) -> set[str]:
        """Names of all files below the blob folder, including unfinished uploads."""
        return {p.name for p in self.farm.blobs.root.rglob("*") if p.is_file()}


def judged(result: TrialResult, *, right: bool = True) -> TrialResult:
    """The result with outputs that were compared with the reference."""
    return replace(result, fidelity=Fidelity(0.0, 0.0, 1.0 if right else 0.1, None, 4, "y", right))


def failed(attempt_id: str, *, transient: bool = False, status: str = "failed") -> TrialResult:
    failure = Failure("measure", "crash", "SIGSEGV in the vendor's library", transient, "tail")
    return TrialResult(SCHEMA, attempt_id, status, AGENT_VERSION, failure=failure)


def unsupported(attempt_id: str) -> TrialResult:
    failure = Failure("convert", "unsupported_operator", "operator NonMaxSuppression unsupported")
    return replace(failed(attempt_id), status="unsupported", failure=failure)


def spec_text(
    name: str = "first",
    trials: int = 1,
    attempts: int = 3,
    *,
    model: str = "dense",
    runtimes: str = "[{backend: onnxruntime}]",
    devices: str = "{}",
    more: str = "",
) -> str:
    return (
        f"name: {name}\nmodels: [{model}]\nruntimes: {runtimes}\ndevices: {devices}\n"
        f"trials: {trials}\nattempts: {attempts}\n{more}"
    )


def build(home: Path, database_url: str = "", **more: float) -> FarmKit:
    """A farm below ``home``; the caller closes its database.

    ``more``: settings; by default only requested health checks run.
    """
    quiet = Settings(
        home=home, database_url=database_url, max_upload_bytes=1 << 20, health_every_s=0
    )
    settings = quiet.model_copy(update=more)
    database = Database(settings.sqlalchemy_url)
    database.migrate()
    clock, doorbells = Clock(), DoorbellRecorder()
    blobs = FolderBlobs(home / "blobs", settings.max_upload_bytes)
    farm = FarmContext(
        settings,
        database,
        blobs,
        publish_doorbell=doorbells,
        compute_reference=reference,
        now=clock,
        inspect=inspect,
    )
    return FarmKit(farm, clock, doorbells)
