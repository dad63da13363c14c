"""A board of the tests: its state folder, a controller, and the process of its agent."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent import broker
from agent.contract.child_jobs import ReferenceJob
from agent.contract.trial import (
    SCHEMA,
    Limits,
    ModelRef,
    ReferenceRef,
    RuntimeRef,
    Scenario,
    TensorSpec,
    Tolerance,
    TrialRequest,
)
from agent.worker.isolation import proc_scan
from agent.worker.isolation.child_process import MARK
from agent.worker.state_dir import mark_of
from support import onnx_files
from support.controllers import JOIN_TOKEN, Controller, serving
from support.need import need
from support.references import reference

DEVICE = "board-1"
QUICK = Scenario(min_duration_s=0.05, max_duration_s=0.3, warm_up_s=0.05, min_samples=20)
LONG = Scenario(min_duration_s=500, max_duration_s=500, warm_up_s=0.05)


@dataclass
class Board:
    """One device: its state folder, its controller, and the process of its agent, if it runs."""

    home: Path
    controller: Controller
    request: TrialRequest
    process: subprocess.Popen[bytes] | None = None

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "agent.cli", *words, "--state-dir", str(self.home)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def start(self) -> None:
        with (self.home / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent.cli", "run", "--state-dir", str(self.home)],
                stdout=log,
                stderr=log,
            )
        self.controller.wait_for(lambda: self.controller.beats)

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        self.process = None
        return code

    def ring(self, attempt_id: str) -> None:
        broker.ring(broker.make_app(self.controller.broker_url, "test", ""), DEVICE, attempt_id)

    def attempt(self, attempt_id: str, scenario: Scenario = QUICK, **changes: Any) -> None:
        """Make an attempt known to the controller, and ring."""
        self.controller.requests[attempt_id] = replace(
            self.request, attempt_id=attempt_id, scenario=scenario, **changes
        )
        self.ring(attempt_id)

    def measuring(self, attempt_id: str) -> None:
        """Wait until the child of an attempt is in its timed loop."""
        stage = self.home / "attempts" / attempt_id / "trial" / "stage"
        self.controller.wait_for(lambda: stage.exists() and stage.read_text() == "measure")

    def children(self) -> list[int]:
        """Processes that carry this agent's mark."""
        mark = f"{MARK}={mark_of(self.home)}:".encode()
        return [pid for pid in proc_scan._pids() if proc_scan._has_mark(pid, mark)]

    @property
    def log(self) -> str:
        return (self.home / "agent.log").read_text()


def make_request(controller: Controller, tmp_path: Path) -> TrialRequest:
    """An attempt on a real model, its blobs with the controller."""
    content = onnx_files.dense_bytes()
    tmp_path.mkdir(exist_ok=True)
    source = tmp_path / "dense.onnx"
    source.write_bytes(content)
    model = ModelRef(
        name="dense",
        format="onnx",
        sha256=controller.put(content),
        size_bytes=len(content),
        inputs=(TensorSpec("x", "float32", (1, onnx_files.FEATURES)),),
        outputs=(TensorSpec("y", "float32", (1, onnx_files.CLASSES)),),
    )
    made = reference(ReferenceJob(model, str(source), str(tmp_path)))
    assert made.failure is None
    outputs = Path(made.path).read_bytes()
    return TrialRequest(
        schema=SCHEMA,
        attempt_id="",
        trial_id="t1",
        model=model,
        runtime=RuntimeRef("onnxruntime", threads=1),
        scenario=QUICK,
        reference=ReferenceRef(controller.put(outputs), len(outputs), 4, made.origin),
        tolerance=Tolerance(0.999, 0.01),
        limits=Limits(convert_s=60, trial_s=600, memory_mib=4096),
    )


@contextlib.contextmanager
def joined(tmp_path: Path, broker_url: str) -> Iterator[Board]:
    has_runtime = importlib.util.find_spec("onnxruntime") is not None
    need("onnxruntime", has_runtime, "it is what the agent's child measures")
    home = tmp_path / "agent"
    with serving(broker_url) as controller:
        board = Board(home, controller, make_request(controller, tmp_path))
        done = board.command("join", controller.url, JOIN_TOKEN, "--name", DEVICE)
        assert done.returncode == 0, done.stderr
        try:
            yield board
        finally:
            if board.process is not None:
                board.stop(signal.SIGKILL)
            proc_scan.kill_marked(MARK, f"{mark_of(home)}:")


def end_attempt(board: Board, attempt_id: str) -> None:
    board.controller.cancelled.add(attempt_id)
    assert board.controller.result_of(attempt_id).status == "cancelled"
