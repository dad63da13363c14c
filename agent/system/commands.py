"""Runs the vendors' command-line tools, each with a time limit."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

from agent.system.errors import Unreadable

LIMIT_S = 5.0
END_S = 1.0
"""How long to wait for a killed tool; one in an uninterruptible driver call does not end."""
_FOLDERS = ("usr/local/bin", "usr/bin", "usr/sbin", "bin", "sbin")


def find(root: Path, name: str) -> str | None:
    """Path of a tool below ``root`` (with ``/`` also on ``PATH``); ``None``: not installed."""
    folders = [str(root / folder) for folder in _FOLDERS]
    if root == Path("/"):
        folders.append(os.environ.get("PATH", ""))
    return shutil.which(name, path=os.pathsep.join(folders))


def output(command: list[str], limit_s: float = LIMIT_S) -> str:
    """Standard output of a command. Raises ``Unreadable``: it fails, or takes longer."""
    tool = Path(command[0]).name
    process = _start(command)
    try:
        stdout, stderr = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise Unreadable(f"{tool} did not answer within {limit_s:g} s") from None
    finally:
        _end(process)
    out = stdout.decode("utf-8", "replace")
    if process.returncode != 0:
        lines = (stderr.decode("utf-8", "replace").strip() or out.strip()).splitlines()
        why = lines[-1][:200] if lines else "it said nothing"
        raise Unreadable(f"{tool} failed ({process.returncode}): {why}")
    return out


def first_line(command: list[str], limit_s: float = LIMIT_S) -> str:
    """First line of a command that prints without end; ends it then. Raises ``Unreadable``."""
    tool = Path(command[0]).name
    process = _start(command)
    try:
        line = _line(process, time.monotonic() + limit_s)
    finally:
        _end(process)
    if line is None:
        raise Unreadable(f"{tool} printed no line within {limit_s:g} s")
    if not line:
        raise Unreadable(f"{tool} ended ({process.returncode}) without a line")
    return line.decode("utf-8", "replace")


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError as error:
        tool = Path(command[0]).name
        raise Unreadable(f"{tool} cannot be started: {error.strerror}") from None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the tool and its own children, which may hold its pipes open."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(END_S)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _line(process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """The first line. ``None``: the time is up; empty: the tool ended without one."""
    assert process.stdout is not None
    received = b""
    while b"\n" not in received:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        part = os.read(process.stdout.fileno(), 65536)
        if not part:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
            break
        received += part
    return received.partition(b"\n")[0].strip()
