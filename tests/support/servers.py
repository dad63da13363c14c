"""Real servers of the test's own: Redis on a free port, PostgreSQL on a private socket."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from orchestrator.broker.embedded import system_server

START_LIMIT_S = 30.0
POSTGRES_USER = "postgres"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def redis_program() -> str | None:
    return system_server()


@contextmanager
def redis_server(
    program: str, host: str = "127.0.0.1", port: int = 0, more: Sequence[str] = ()
) -> Iterator[str]:
    """A Redis that keeps nothing on disk, at an address of this machine; its URL."""
    port = port or free_port()
    command = [program, "--port", str(port), "--bind", host, "--save", ""]
    command += ["--appendonly", "no", "--protected-mode", "no", *more]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_listening(process, host, port)
        yield f"redis://{host}:{port}/0"
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_listening(process: subprocess.Popen[bytes], host: str, port: int) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"redis-server did not start on port {port}")


def postgres_programs() -> Path | None:
    """The folder of the newest ``initdb``: on the path, or where Debian keeps it."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((p.parent for p in folders), key=lambda p: int(p.parent.name), default=None)


@contextmanager
def postgres_server(programs: Path, port: int = 0) -> Iterator[str]:
    """A PostgreSQL in a folder of its own; the URL of its ``postgres`` database. ``port``: of this
    machine's loopback, on which it listens too, and which the URL names then.

    Its time zone is far from UTC, so that a time that comes back in the server's shows.
    """
    with tempfile.TemporaryDirectory(prefix="benchfarm-postgres-", dir="/tmp") as name:
        folder = Path(name)
        as_user = _as_unprivileged(folder)
        data = folder / "data"
        initdb: list[str | Path] = [programs / "initdb", "-D", data, "-U", POSTGRES_USER]
        _run([*as_user, *initdb, "-A", "trust", "-N", "--locale=C", "--encoding=UTF8"])
        listen = f"127.0.0.1 -c port={port}" if port else "''"
        options = (
            f"-c listen_addresses={listen} -c unix_socket_directories={folder} -c fsync=off "
            "-c synchronous_commit=off -c full_page_writes=off -c max_connections=120 "
            "-c timezone=Asia/Tokyo"
        )
        control = [*as_user, programs / "pg_ctl", "-D", data, "-w", "-t", "30"]
        _run([*control, "-l", folder / "log", "-o", options, "start"])
        try:
            where = f"127.0.0.1:{port}/postgres" if port else f"/postgres?host={folder}"
            yield f"postgresql+psycopg://{POSTGRES_USER}@{where}"
        finally:
            _run([*control, "-m", "immediate", "stop"])


def _as_unprivileged(folder: Path) -> list[str | Path]:
    """PostgreSQL refuses root: hand the folder to its own user and become that."""
    if os.geteuid() != 0:
        return []
    account = pwd.getpwnam(POSTGRES_USER)
    os.chown(folder, account.pw_uid, account.pw_gid)
    ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}"]
    return ["setpriv", *ids, "--clear-groups", "--inh-caps=-all"]


def _run(command: list[str | Path]) -> None:
    # the server inherits stdout: a pipe would be waited for until the server ends
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        cwd="/", check=False, timeout=120,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{command[0]} … {command[-1]}: exit {done.returncode}")
