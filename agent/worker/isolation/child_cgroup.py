"""One child's control group (version 2), which limits and ends all its processes together.

Source: Documentation/admin-guide/cgroup-v2.rst of Linux.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

PROCESSES = 4096
"""``pids.max`` of a child: processes and threads together."""
MEMORY_HEADROOM_MIB = 256
"""How far ``memory.max`` is above the limit on resident memory. A group is also charged for page
cache and page tables, and reclaim slows it down before it is killed. With this headroom only a
child that is over its limit is slowed down, and the parent's check finds it."""
EMPTY_S = 2.0
"""How long killed processes may take to leave their group."""

_ENTER = 'echo 0 >"$0"; exec "$@"'
"""Enter a group, then become the command in the same process, so that all of it is inside."""


class NoCgroup:
    """Used where a child has no group: does nothing."""

    def command(self, command: Sequence[str]) -> list[str]:
        """The command line that runs ``command`` in the group."""
        return list(command)

    def kill(self) -> None:
        """Kill every process in the group, whatever process group or session it is in."""

    def out_of_memory(self) -> str:
        """``group`` where the kernel killed a process at the group's limit, ``system`` where it did
        because the whole system was out of memory, else empty."""
        return ""

    def peak_mib(self) -> float:
        """The group's peak memory, page cache included; 0: not known."""
        return 0.0


@dataclass(frozen=True)
class ChildCgroup(NoCgroup):
    """One child's group."""

    folder: Path

    def command(self, command: Sequence[str]) -> list[str]:
        """Raises ``FileNotFoundError`` like a start without a group; the shell would exit 127."""
        if shutil.which(command[0]) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
        return ["/bin/sh", "-c", _ENTER, str(self.folder / "cgroup.procs"), *command]

    def bound(self, memory_mib: int, *, swaps: bool) -> None:
        """Set the limits for which the group has controllers. Raises ``OSError``."""
        max_bytes = (memory_mib + MEMORY_HEADROOM_MIB) << 20
        for name, value in (
            ("memory.max", str(max_bytes)),
            ("memory.oom.group", "1"),
            ("memory.swap.max", "max" if swaps else "0"),
            ("pids.max", str(PROCESSES)),
        ):
            with contextlib.suppress(FileNotFoundError):  # no such controller, or no swap
                set_value(self.folder / name, value)

    def kill(self) -> None:
        """Kill every process in the group and wait for at most ``EMPTY_S``."""
        deadline = time.monotonic() + EMPTY_S
        try:
            set_value(self.folder / "cgroup.kill", "1")  # Linux 5.14
        except OSError:
            self._kill_each(deadline)
        while self._populated() and time.monotonic() < deadline:
            time.sleep(0.002)

    def _kill_each(self, deadline: float) -> None:
        """Kill one process after the other, again and again: some may fork meanwhile."""
        while self._populated() and time.monotonic() < deadline:
            for members in [self.folder / "cgroup.procs", *self.folder.rglob("*/cgroup.procs")]:
                for pid in words(members):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.002)

    def _populated(self) -> bool:
        return counts(self.folder / "cgroup.events").get("populated", 0) > 0

    def out_of_memory(self) -> str:
        events = counts(self.folder / "memory.events")
        if not events.get("oom_kill"):
            return ""
        return "group" if events.get("oom") else "system"

    def peak_mib(self) -> float:
        found = words(self.folder / "memory.peak")  # Linux 5.19
        return int(found[0]) / (1 << 20) if found else 0.0

    def remove(self) -> None:
        """Remove the group and the groups below it; one with a running process stays."""
        below = sorted((p for p in self.folder.rglob("*") if p.is_dir()), reverse=True)
        for folder in (*below, self.folder):
            try:
                folder.rmdir()
            except OSError as error:
                log.error("the control group %s stays: %s", folder, error)
                return


def set_value(path: Path, value: str) -> None:
    """Write an interface file, which may be write-only; never create one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def words(path: Path) -> list[str]:
    """The words of an interface file; empty where it cannot be read."""
    try:
        return path.read_text("utf-8").split()
    except OSError:
        return []


def counts(path: Path) -> dict[str, int]:
    """The values of a flat keyed interface file, by key."""
    found = words(path)
    return {key: int(value) for key, value in zip(found[::2], found[1::2], strict=False)}
