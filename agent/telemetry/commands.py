"""The vendors' command-line tools, each with a time limit."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from pathlib import Path

from agent.telemetry.errors import Unreadable

LIMIT_S = 5.0
_FOLDERS = ("usr/local/bin", "usr/bin", "usr/sbin", "bin", "sbin", "home/nvidia")


def find(root: Path, name: str) -> str | None:
    """Where the tool is, looked for below ``root`` (and on the path, where that is ``/``)."""
    folders = [str(root / folder) for folder in _FOLDERS]
    if root == Path("/"):
        folders.append(os.environ.get("PATH", ""))
    return shutil.which(name, path=os.pathsep.join(folders))


def output(command: list[str], limit_s: float = LIMIT_S) -> str:
    """What it prints. Raises ``Unreadable``: it fails, or takes longer."""
    tool = Path(command[0]).name
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unreadable(f"{tool} did not answer within {limit_s:.0f} s") from None
    except OSError as error:
        raise Unreadable(f"{tool} cannot be started: {error.strerror}") from None
    out = ended.stdout.decode("utf-8", "replace")
    if ended.returncode != 0:
        said = (ended.stderr.decode("utf-8", "replace") or out).strip().splitlines()
        raise Unreadable(f"{tool} failed ({ended.returncode}): {said[-1][:200] if said else '-'}")
    return out


def first_line(command: list[str], limit_s: float = LIMIT_S) -> str:
    """The first line of a tool that prints for ever; it is ended then. Raises ``Unreadable``."""
    tool = Path(command[0]).name
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError as error:
        raise Unreadable(f"{tool} cannot be started: {error.strerror}") from None
    try:
        line = _line(process, time.monotonic() + limit_s)
    finally:
        process.kill()
        process.communicate()
    if line is None:
        raise Unreadable(f"{tool} printed no line within {limit_s:.0f} s")
    if not line:
        raise Unreadable(f"{tool} ended ({process.returncode}) without a line")
    return line.decode("utf-8", "replace")


def _line(process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """None: the time is up; empty: it ended without one."""
    assert process.stdout is not None
    said = b""
    while b"\n" not in said:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        part = os.read(process.stdout.fileno(), 65536)
        if not part:
            break
        said += part
    return said.partition(b"\n")[0].strip()
