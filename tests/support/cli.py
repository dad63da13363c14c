"""``benchfarm up`` and ``benchfarm`` as a user runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BENCHFARM = Path(sys.executable).parent / "benchfarm"
START_LIMIT_S = 120.0


@dataclass(frozen=True)
class Shell:
    """``benchfarm`` typed into a terminal, with one home."""

    home: Path
    environment: dict[str, str]
    program: Path = BENCHFARM

    def __call__(
        self, *words: str | Path, limit_s: float = 240.0
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.program), *map(str, words)],
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=limit_s,
        )

    def fine(self, *words: str | Path, limit_s: float = 240.0) -> str:
        """Run; it must exit 0. Returns what it printed."""
        ended = self(*words, limit_s=limit_s)
        assert ended.returncode == 0, f"{words}: {ended.returncode}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def refused(self, *words: str | Path) -> str:
        """Run; it must exit 2 with one message and no trace. Returns the message."""
        ended = self(*words)
        assert ended.returncode == 2, f"{words}: {ended.returncode}\n{ended.stdout}{ended.stderr}"
        assert "Traceback" not in ended.stderr
        return ended.stderr


def shell_in(home: Path, **settings: str) -> Shell:
    """``benchfarm`` with that home and these settings, and none of this process's."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BENCHFARM_")}
    return Shell(home, {**environment, "BENCHFARM_HOME": str(home), "COLUMNS": "160", **settings})


@contextmanager
def running(
    home: Path,
    words: Sequence[str] = ("--local-agent", "--name", "bench"),
    program: str | Path = BENCHFARM,
    **settings: str,
) -> Iterator[Shell]:
    """``benchfarm up`` with ``words`` on a free port, until the block ends."""
    home.mkdir(parents=True, exist_ok=True)
    environment = shell_in(home, **settings).environment
    log = home / "up.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [str(program), "up", *words, "--port", "0"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        _wait_ready(process, log)
        yield Shell(home, environment, Path(program))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(timeout=60) == 0, log.read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _wait_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while "ready" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def make_onnx(
    path: Path,
    *,
    shape: list[Any],
    op: str = "Relu",
    gives: list[Any] | None = None,
    opset: int = 17,
) -> Path:
    """A one-operator ONNX file; ``shape`` may hold names for free dimensions."""
    from onnx import TensorProto, helper, save

    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, gives or shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    save(model, str(path))
    return path
