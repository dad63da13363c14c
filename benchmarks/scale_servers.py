"""A PostgreSQL, a Redis and a controller of the benchmark's own, each a process."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

START_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Server:
    """How to start one; it is there once it listens on ``port``."""

    command: list[str]
    port: int
    url: str
    log: Path
    environment: Mapping[str, str]

    def begun(self) -> subprocess.Popen[bytes]:
        """Its process, just started."""
        with self.log.open("ab") as out:
            return subprocess.Popen(
                self.command, stdout=out, stderr=out, env=dict(self.environment), cwd="/"
            )

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextlib.contextmanager
def running(server: Server) -> Iterator[subprocess.Popen[bytes]]:
    """A server until the block ends; entered once it listens."""
    process = server.begun()
    try:
        deadline = time.monotonic() + START_S
        while not server.listens():
            if process.poll() is not None or time.monotonic() > deadline:
                said = server.log.read_text()[-500:]
                raise SystemExit(f"{server.command[0]} did not start: {said}")
            time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its URL and its process."""
    server = postgres_in(folder)
    with running(server) as process:
        yield server.url, process


def postgres_in(folder: Path) -> Server:
    """A new one, as Debian sets it up: commits reach the disk."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    initdb = Path(shutil.which("initdb") or max(found, default=Path("initdb")))
    if not initdb.exists():
        raise SystemExit("this benchmark needs PostgreSQL: there is no initdb")
    data = folder / "postgres"
    data.mkdir()
    as_user: list[str] = []
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        folder.chmod(0o755)
        os.chown(data, account.pw_uid, account.pw_gid)
        ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        as_user = ["setpriv", *ids]
    words = [*as_user, str(initdb), "-D", str(data), "-U", "postgres", "-A", "trust"]
    words += ["--locale=C", "--encoding=UTF8"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd="/")
    port = free_port()
    command = [*as_user, str(initdb.with_name("postgres")), "-D", str(data), "-p", str(port)]
    command += ["-k", str(data), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]
    url = f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    return Server(command, port, url, folder / "postgres.log", os.environ)


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    server = redis_in(folder)
    with running(server):
        yield server.url


def redis_in(folder: Path) -> Server:
    """One that keeps nothing."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("this benchmark needs redis-server")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    command += ["--maxclients", "20000"]
    url = f"redis://127.0.0.1:{port}/0"
    return Server(command, port, url, folder / "redis.log", os.environ)


@contextlib.contextmanager
def controller(
    folder: Path, database_url: str, broker_url: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its URL and its process."""
    server = controller_in(folder, database_url, broker_url)
    with running(server) as process:
        yield server.url, process


def controller_in(
    folder: Path, database_url: str, broker_url: str, times: Mapping[str, float] = {}
) -> Server:
    """``benchfarm up`` as a user runs it, but for health checks; ``times``: its settings."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("BENCHFARM_")}
    own |= {
        "BENCHFARM_HOME": str(folder / "home"),
        "BENCHFARM_DATABASE_URL": database_url,
        "BENCHFARM_BROKER_URL": broker_url,
        "BENCHFARM_HEALTH_EVERY_S": "0",
        **{f"BENCHFARM_{name}": str(seconds) for name, seconds in times.items()},
    }
    port = free_port()
    command = [str(Path(sys.executable).with_name("benchfarm")), "up", "--port", str(port)]
    return Server(command, port, f"http://127.0.0.1:{port}", folder / "up.log", own)
