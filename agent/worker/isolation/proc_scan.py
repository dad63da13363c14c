"""Other processes, read from ``/proc``: a group's resident memory, and processes with a mark."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessGroup:
    """Resident memory of one process group.

    Reading known members takes microseconds; finding new ones means a scan of ``/proc``, done on
    every ``checks_per_scan``-th call only. A child that shares pages with its parent counts twice.
    """

    def __init__(self, leader: int, checks_per_scan: int) -> None:
        self._leader = leader
        self._checks_per_scan = checks_per_scan
        self._calls = 0
        self._members = [leader]

    def resident_bytes(self) -> int:
        """Sum over the members that are known by now."""
        if self._calls % self._checks_per_scan == 0:
            self._members = [pid for pid in _pids() if _group_of(pid) == self._leader]
        self._calls += 1
        return sum(_resident_bytes(pid) for pid in self._members)


def kill_marked(variable: str, value_prefix: str) -> list[int]:
    """SIGKILL every process whose environment has ``variable`` starting with ``value_prefix``.

    This also finds processes that left their process group. Returns the killed process ids.
    """
    mark = f"{variable}={value_prefix}".encode()
    killed = []
    for pid in _pids():
        if pid != os.getpid() and _has_mark(pid, mark):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
    return killed


def tasks_of(user: int) -> int:
    """Threads of all of a user's processes, as RLIMIT_NPROC counts them."""
    found = 0
    for pid in _pids():
        with contextlib.suppress(OSError):
            status = os.stat(f"/proc/{pid}/task")
            if status.st_uid == user:
                found += status.st_nlink - 2
    return found


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _has_mark(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return any(entry.startswith(mark) for entry in file.read().split(b"\0"))
    except OSError:
        return False


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return -1


def _resident_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0
