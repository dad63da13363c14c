"""Server and agent processes that can be killed, frozen, ended and restarted."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from support import servers

from .clocks import Clock

PATIENCE_S = 180.0
"""Limit for anything that must happen eventually, on a machine that may be busy."""


class Process:
    """One server or agent, restarted with the same command after it ended.

    A fault holds ``busy`` while it lasts, so that two faults never hit one process at once.
    ``down``: it was killed and not restarted yet. ``own_exits``: exit codes where the process
    ended by itself and ``keep_up`` restarted it.
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
        self.own_exits: list[int] = []

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
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, cwd="/", start_new_session=True,
            )  # fmt: skip
            self.down = False  # not before: keep_up would take the kill for an exit of its own

    def keep_up(self) -> None:
        """Restart the process if it ended by itself, as a service manager does."""
        if self._process is not None and not self.down and not self.runs:
            self.own_exits.append(self._process.returncode)
            self.start()

    def send(self, number: int) -> None:
        if self.runs:
            os.kill(self.pid, number)

    def resume(self) -> None:
        """Undo a freeze."""
        self.send_all(signal.SIGCONT)

    def _children(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            if self.runs:
                return list(psutil.Process(self.pid).children(recursive=True))
        return []

    def send_all(self, number: int) -> None:
        """Signal the process, then all its descendants."""
        self.send(number)
        for child in self._children():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(number)

    def kill_child(self, draw: int) -> None:
        """Kill one child, selected by ``draw``, whose command line names a client's address: a
        PostgreSQL backend."""
        serving = []
        for child in self._children():
            with contextlib.suppress(psutil.Error):
                if "127.0.0.1" in " ".join(child.cmdline()):
                    serving.append(child)
        if serving:
            with contextlib.suppress(psutil.NoSuchProcess):
                random.Random(draw).choice(serving).kill()

    def kill(self) -> None:
        """SIGKILL, and reap."""
        self.down = True
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(PATIENCE_S)

    def ask_end(self, number: int = signal.SIGTERM) -> None:
        """Send the signal that ends it, even while it is frozen."""
        self.resume()
        self.send(number)

    def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        assert self._process is not None
        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} has not ended within {PATIENCE_S:.0f} s") from None

    def end(self, number: int = signal.SIGTERM) -> int:
        self.ask_end(number)
        return self.wait()


def wait_listening(process: Process, port: int, host: str = "127.0.0.1") -> None:
    """Wait until the port accepts connections; a process that ended by itself is restarted."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        process.keep_up()
        time.sleep(0.05)
    raise AssertionError(f"{process.name} does not listen on port {port}; see {process.log}")


class Postgres:
    """PostgreSQL in a new cluster. Commits survive a kill of the server; with ``durable`` they are
    flushed to disk, too, as a production server does. ``with_clock``: its clock can jump."""

    def __init__(
        self, programs: Path, log: Path, *, durable: bool = False, with_clock: bool = False
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="benchfarm-chaos-pg-", dir="/tmp")
        folder = Path(self._folder.name)
        as_user = servers._as_unprivileged(folder)
        data = folder / "data"
        initdb: list[str | Path] = [programs / "initdb", "-D", data, "-U", servers.POSTGRES_USER]
        servers._run([*as_user, *initdb, "-A", "trust", "-N", "--locale=C", "--encoding=UTF8"])
        self.port = servers.free_port()
        self.url = f"postgresql+psycopg://{servers.POSTGRES_USER}@127.0.0.1:{self.port}/postgres"
        words = [*as_user, programs / "postgres", "-D", data, "-p", str(self.port), "-k", folder]
        settings = ["listen_addresses=127.0.0.1", "max_connections=200"]
        for setting in settings if durable else [*settings, "fsync=off"]:
            words += ["-c", setting]
        self.log = log
        log.touch()
        self.clock = Clock(folder) if with_clock else None
        own = {**os.environ, **(self.clock.environment if self.clock is not None else {})}
        self.process = Process("postgres", words, log, own)

    def start(self) -> None:
        # right after a kill the old children may still hold the shared memory: retried until then
        self.process.start()
        wait_listening(self.process, self.port)

    def close(self) -> None:
        if self.process.runs:
            self.process.end(signal.SIGINT)
        self._folder.cleanup()


class Redis:
    """Redis without persistence."""

    def __init__(self, program: str, folder: Path, host: str = "127.0.0.1") -> None:
        self.port, self.host = servers.free_port(), host
        self.url = f"redis://{host}:{self.port}/0"
        words = [program, "--port", str(self.port), "--bind", host, "--save", ""]
        words += ["--protected-mode", "no", "--maxclients", "20000"]
        self.process = Process("redis", words, folder / "redis.log", dict(os.environ))

    def start(self) -> None:
        self.process.start()
        wait_listening(self.process, self.port, self.host)

    def close(self) -> None:
        if self.process.runs:
            with contextlib.suppress(AssertionError):
                self.process.end()


def controller_environment(
    home: Path, database_url: str, broker_url: str, settings: Mapping[str, str]
) -> dict[str, str]:
    """This environment with the controller's own settings and no other ones of benchfarm;
    ``settings`` without the prefix ``BENCHFARM_``. An empty URL: the embedded default."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("BENCHFARM_")}
    urls = {"DATABASE_URL": database_url, "BROKER_URL": broker_url}
    given = {"HOME": str(home), **settings, **{name: url for name, url in urls.items() if url}}
    return own | {f"BENCHFARM_{name}": value for name, value in given.items()}
