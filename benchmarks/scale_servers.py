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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

START_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], port: int, log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A server until the block ends; entered once it listens on ``port``."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=out, stderr=out, env=dict(environment), cwd="/"
        )
    try:
        deadline = time.monotonic() + START_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} did not start: {log.read_text()[-500:]}")
            time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """As Debian sets it up: commits reach the disk. Its URL and its process."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    initdb = Path(shutil.which("initdb") or max(found, default=Path("initdb")))
    if not initdb.exists():
        raise SystemExit("this benchmark needs PostgreSQL: there is no initdb")
    data = folder / "postgres"
    data.mkdir()
    as_user: list[str | Path] = []
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        folder.chmod(0o755)
        os.chown(data, account.pw_uid, account.pw_gid)
        ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        as_user = ["setpriv", *ids]
    words = [
        *as_user,
        initdb,
        "-D",
        data,
        "-U",
        "postgres",
        "-A",
        "trust",
        "--locale=C",
        "--encoding=UTF8",
    ]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd="/")
    port = free_port()
    command = [*as_user, initdb.with_name("postgres"), "-D", data, "-p", str(port), "-k", data]
    command += ["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]
    with running(command, port, folder / "postgres.log", os.environ) as process:
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres", process


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("this benchmark needs redis-server")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    command += ["--maxclients", "20000"]
    with running(command, port, folder / "redis.log", os.environ):
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def controller(
    folder: Path, database_url: str, broker_url: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """``benchfarm up`` as a user runs it, but for health checks. Its URL and its process."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("BENCHFARM_")}
    own |= {
        "BENCHFARM_HOME": str(folder / "home"),
        "BENCHFARM_DATABASE_URL": database_url,
        "BENCHFARM_BROKER_URL": broker_url,
        "BENCHFARM_HEALTH_EVERY_S": "0",
    }
    port = free_port()
    program = Path(sys.executable).with_name("benchfarm")
    with running([program, "up", "--port", str(port)], port, folder / "up.log", own) as process:
        yield f"http://127.0.0.1:{port}", process
