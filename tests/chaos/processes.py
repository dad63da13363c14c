"""The processes of the farm: each can be killed, frozen, ended and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from support import servers

from .clocks import Clock

PATIENCE_S = 180.0
"""For anything that must happen sooner or later, on a machine that may be busy."""


class Process:
    """One server or agent, started again with the same words after it ended.

    A fault that meets it holds ``busy``, so that two at once do not meet the same one; ``down``:
    it was killed and not started since.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self._command = [str(word) for word in command]
        self.log = log
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        self.busy = threading.Lock()
        self.down = False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        with self._starting, self.log.open("ab") as log:
            if self.runs:
                return
            self.down = False
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, cwd="/", start_new_session=True,
            )  # fmt: skip

    def send(self, number: int) -> None:
        if self.runs:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and reap."""
        self.down = True
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(PATIENCE_S)

    def ask_end(self, number: int = signal.SIGTERM) -> None:
        """As a user ends it, even if it is frozen."""
        self.send(signal.SIGCONT)
        self.send(number)

    def wait(self) -> int:
        """Until it has ended; its exit code."""
        assert self._process is not None
        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} has not ended within {PATIENCE_S:.0f} s") from None

    def end(self, number: int = signal.SIGTERM) -> int:
        self.ask_end(number)
        return self.wait()


def wait_listening(process: Process, port: int, host: str = "127.0.0.1") -> None:
    """Until somebody answers on the port; started anew where it ended by itself."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        if not process.runs:
            process.start()
        time.sleep(0.05)
    raise AssertionError(f"{process.name} does not listen on port {port}")


class Postgres:
    """A PostgreSQL that keeps what it acknowledged when it is killed (the machine stays up)."""

    def __init__(self, programs: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="benchfarm-chaos-pg-", dir="/tmp")
        folder = Path(self._folder.name)
        as_user = servers._as_unprivileged(folder)
        data = folder / "data"
        initdb: list[str | Path] = [programs / "initdb", "-D", data, "-U", servers.POSTGRES_USER]
        servers._run([*as_user, *initdb, "-A", "trust", "-N", "--locale=C", "--encoding=UTF8"])
        self.port = servers.free_port()
        self.url = f"postgresql+psycopg://{servers.POSTGRES_USER}@127.0.0.1:{self.port}/postgres"
        words = [*as_user, programs / "postgres", "-D", data, "-p", str(self.port), "-k", folder]
        for setting in ("listen_addresses=127.0.0.1", "fsync=off", "max_connections=120"):
            words += ["-c", setting]
        self.log = folder / "log"
        self.log.touch()
        self.clock = Clock(folder)
        own = {**os.environ, **self.clock.environment}
        self.process = Process("postgres", words, self.log, own)

    def start(self) -> None:
        # right after a kill the old one's children may still hold its memory: it is tried again
        self.process.start()
        wait_listening(self.process, self.port)

    def close(self) -> None:
        if self.process.runs:
            self.process.end(signal.SIGINT)
        self._folder.cleanup()


class Redis:
    """A Redis that keeps nothing."""

    def __init__(self, program: str, folder: Path, host: str) -> None:
        self.port, self.host = servers.free_port(), host
        self.url = f"redis://{host}:{self.port}/0"
        words = [program, "--port", str(self.port), "--bind", host, "--save", ""]
        words += ["--protected-mode", "no"]
        self.process = Process("redis", words, folder / "redis.log", dict(os.environ))

    def start(self) -> None:
        self.process.start()
        wait_listening(self.process, self.port, self.host)

    def close(self) -> None:
        if self.process.runs:
            with contextlib.suppress(AssertionError):
                self.process.end()
