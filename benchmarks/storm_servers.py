"""The servers of a farm under faults: killed, frozen, started again as a service manager does."""

from __future__ import annotations

import contextlib
import random
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path

import psutil

from benchmarks import scale_servers
from benchmarks.scale_servers import Server

RESTART_S = 1.0
"""How long a service manager waits before it starts what has ended."""
END_S = 120.0
OPEN_FILES = 1024
"""What a service manager lets a service open unless told otherwise (systemd's DefaultLimitNOFILE,
its soft limit)."""


class Service:
    """One server. A fault that meets it holds ``busy``, so that two at once do not."""

    def __init__(self, name: str, server: Server) -> None:
        self.name, self.server = name, server
        self.busy, self._starting = threading.Lock(), threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.wanted = False
        """It is to be started again where it has ended."""
        self.ended: list[int] = []
        """Exit codes of ends that no fault had asked for."""

    @property
    def pid(self) -> int:
        """Of its first process; 0 where it is down."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    def start(self) -> None:
        """Unless it runs."""
        with self._starting:
            self.wanted = True
            if not self.pid:
                self._process = self.server.begun()

    def keep_up(self) -> None:
        """Start it where it has ended by itself."""
        process = self._process
        if self.wanted and process is not None and (code := process.poll()) is not None:
            self.ended.append(code)
            time.sleep(RESTART_S)
            if self.wanted:
                self.start()

    def family(self) -> list[psutil.Process]:
        """It and its children; the children of a frozen one are not made anew."""
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self.pid) if self.pid else None
            return [first, *first.children(recursive=True)] if first else []
        return []

    def kill(self, lasts_s: float) -> None:
        with self.busy:
            self.wanted = False
            if self.pid:
                psutil.Process(self.pid).kill()
            if self._process is not None:
                self._process.wait(END_S)
            time.sleep(lasts_s)
            self.start()
            self.wait_up()

    def freeze(self, lasts_s: float) -> None:
        with self.busy:
            _send(self.family(), signal.SIGSTOP)
            _send(self.family()[1:], signal.SIGSTOP)  # those that were just being made
            time.sleep(lasts_s)
            _send(self.family(), signal.SIGCONT)

    def kill_child(self, draw: int) -> None:
        """One that serves a client."""
        serving = [p for p in self.family()[1:] if "127.0.0.1" in " ".join(_words(p))]
        if serving:
            with contextlib.suppress(psutil.NoSuchProcess):
                random.Random(draw).choice(serving).kill()

    def wait_up(self, within_s: float = 180.0) -> None:
        """Until it listens. Raises ``TimeoutError``."""
        deadline = time.monotonic() + within_s
        while not self.server.listens():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} does not listen after {within_s:.0f} s")
            self.keep_up()
            time.sleep(0.05)

    def end(self) -> int:
        """As a user ends it, with Ctrl-C; its exit code. Raises ``TimeoutError``."""
        self.wanted = False
        process = self._process
        if process is None:
            return 0
        _send(self.family(), signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise TimeoutError(f"{self.name} has not ended after {END_S:.0f} s") from None


def _send(family: list[psutil.Process], number: int) -> None:
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _words(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        found: list[str] = process.cmdline()
        return found
    return []


class Servers:
    """PostgreSQL, Redis and one controller, watched from ``with`` on."""

    def __init__(self, folder: Path, times: dict[str, float]) -> None:
        self.postgres = Service("postgres", scale_servers.postgres_in(folder))
        self.redis = Service("redis", scale_servers.redis_in(folder))
        urls = self.postgres.server.url, self.redis.server.url
        controller = scale_servers.controller_in(folder, *urls, times)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        controller.command[:0] = ["prlimit", f"--nofile={OPEN_FILES}:{hard}"]
        self.controller = Service("controller", controller)
        self.all = (self.postgres, self.redis, self.controller)
        self.rss_mib: list[tuple[int, float]] = []
        """Of the controller, each second: its process and its resident memory."""
        self.most_files = 0
        """That a controller has had open."""
        self._stop = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="service manager")

    def __enter__(self) -> Servers:
        for service in self.all:
            service.start()
            service.wait_up()
        self._watching.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._watching.is_alive():
            self._watching.join()
        for service in reversed(self.all):
            with contextlib.suppress(TimeoutError):
                service.end()

    def stop_watching(self) -> None:
        """From here on nothing is started again."""
        self._stop.set()
        self._watching.join()

    def heal(self) -> None:
        for service in self.all:
            with service.busy:
                _send(service.family(), signal.SIGCONT)
                service.start()
                service.wait_up()

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            for service in self.all:
                service.keep_up()
            pid = self.controller.pid
            with contextlib.suppress(psutil.Error):
                if pid:
                    found = psutil.Process(pid)
                    self.rss_mib.append((pid, found.memory_info().rss / (1 << 20)))
                    self.most_files = max(self.most_files, found.num_fds())
