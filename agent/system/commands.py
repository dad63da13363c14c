"""Runs the vendors' command-line tools, each with a time limit."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Told:
    """What a tool printed. ``complaint``: how it ended where it ended with an error, which does not
    mean that what it printed is wrong; empty: it ended well."""

    tool: str
    out: str
    complaint: str = ""

    def require(self) -> str:
        """Its output. Raises ``Unreadable`` with its complaint, if it has one."""
        if self.complaint:
            raise Unreadable(self.complaint)
        return self.out

    def besides(self, row: re.Pattern[str]) -> str:
        """What the tool said besides its rows; empty: nothing.

        Raises ``Unreadable``: it said something, and no row is among it.
        """
        lines = [line.strip() for line in self.out.splitlines() if line.strip()]
        foreign = [line for line in lines if not row.fullmatch(line)]
        more = f" and {len(foreign) - 1} more lines" if len(foreign) > 1 else ""
        said = f"{self.tool} also said {foreign[0][:80]!r}{more}" if foreign else ""
        if len(foreign) == len(lines) and (self.complaint or foreign):
            raise Unreadable(
                self.complaint
                or f"{self.tool} said {foreign[0][:60]!r}{more}, where values were expected"
            )
        return self.complaint or said


def output(command: list[str], limit_s: float = LIMIT_S) -> str:
    """Standard output of a command. Raises ``Unreadable``: it fails, or takes longer."""
    return told(command, limit_s).require()


def told(command: list[str], limit_s: float = LIMIT_S) -> Told:
    """What a command printed, whatever its exit code. Raises ``Unreadable``: it takes longer."""
    tool = Path(command[0]).name
    process = _start(command)
    try:
        stdout, stderr = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise Unreadable(f"{tool} did not answer within {limit_s:g} s") from None
    finally:
        _end(process)
    out = stdout.decode("utf-8", "replace")
    if process.returncode == 0:
        return Told(tool, out)
    lines = (stderr.decode("utf-8", "replace").strip() or out.strip()).splitlines()
    why = lines[-1][:200] if lines else "it said nothing"
    return Told(tool, out, f"{tool} failed ({process.returncode}): {why}")


def first_line(command: list[str], wanted: re.Pattern[str], limit_s: float = LIMIT_S) -> str:
    """First line with a match of ``wanted`` of a command that prints without end; ends it then.

    Raises ``Unreadable``: none came in time; quotes what came instead.
    """
    tool = Path(command[0]).name
    process = _start(command)
    deadline = time.monotonic() + limit_s
    foreign: list[str] = []
    received = b""
    try:
        while True:
            part = _part(process, deadline)
            received += part or b""
            *lines, received = received.split(b"\n") if part else [received, b""]
            for raw in lines:
                line = raw.decode("utf-8", "replace").strip()
                if wanted.search(line):
                    return line
                foreign += [line] if line else []
            if not part:
                break
    finally:
        _end(process)
    said = f"; it said {foreign[-1][:60]!r}" if foreign else ""
    if part is None:
        raise Unreadable(f"{tool} printed no line of values within {limit_s:g} s{said}")
    raise Unreadable(f"{tool} ended ({process.returncode}) without a line of values{said}")


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


def _part(process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """What it printed next. ``None``: the time is up; empty: the tool ended."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
    if not ready:
        return None
    part = os.read(process.stdout.fileno(), 65536)
    if not part:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
    return part
