"""One child's control group (version 2): what runs in it is bounded together, and ends together.

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
"""``memory.max`` lies that far above the limit on resident memory: a group is also charged for page
cache and page tables, and what reaches its maximum is slowed by reclaim before it is killed. So a
child that is reclaimed from is over its limit already, and is found to be."""
EMPTY_S = 2.0
"""How long what was killed may take to leave its group."""

_ENTER = 'echo 0 >"$0"; exec "$@"'
"""Enter a group, then become the command: as the same process, so that nothing of it is outside."""


class NoCgroup:
    """Where a child has no group: all as without one."""

    def command(self, command: Sequence[str]) -> list[str]:
        """What to run so that it runs in the group."""
        return list(command)

    def kill(self) -> None:
        """End what is in it, whatever process group or session it has made itself."""

    def out_of_memory(self) -> str:
        """``group`` where the kernel killed for the group's limit, ``system`` where it did for want
        of memory altogether, else nothing."""
        return ""

    def peak_mib(self) -> float:
        """The most it was charged for, page cache included; 0 where that is not known."""
        return 0.0


@dataclass(frozen=True)
class ChildCgroup(NoCgroup):
    """One child's group."""

    folder: Path

    def command(self, command: Sequence[str]) -> list[str]:
        """Raises ``FileNotFoundError`` as without a group: the shell would only exit with 127."""
        if shutil.which(command[0]) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
        return ["/bin/sh", "-c", _ENTER, str(self.folder / "cgroup.procs"), *command]

    def bound(self, memory_mib: int, *, swaps: bool) -> None:
        """Set its limits, those that its controllers have. Raises ``OSError``."""
        most = (memory_mib + MEMORY_HEADROOM_MIB) << 20
        for name, value in (
            ("memory.max", str(most)),
            ("memory.oom.group", "1"),
            ("memory.swap.max", "max" if swaps else "0"),
            ("pids.max", str(PROCESSES)),
        ):
            with contextlib.suppress(FileNotFoundError):  # no such controller, or no swap
                set_value(self.folder / name, value)

    def kill(self) -> None:
        deadline = time.monotonic() + EMPTY_S
        try:
            set_value(self.folder / "cgroup.kill", "1")  # Linux 5.14
        except OSError:
            self._kill_each(deadline)
        while self._populated() and time.monotonic() < deadline:
            time.sleep(0.002)

    def _kill_each(self, deadline: float) -> None:
        """As ``cgroup.kill``, but what forks meanwhile is only found by looking again."""
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
        """Take it away, with what was made below; what still runs keeps it."""
        below = sorted((p for p in self.folder.rglob("*") if p.is_dir()), reverse=True)
        for folder in (*below, self.folder):
            try:
                folder.rmdir()
            except OSError as error:
                log.error("the control group %s stays: %s", folder, error)
                return


def set_value(path: Path, value: str) -> None:
    """Write an interface file, which may be for writing alone; never make one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def words(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").split()
    except OSError:
        return []


def counts(path: Path) -> dict[str, int]:
    """A flat keyed file."""
    found = words(path)
    return {key: int(value) for key, value in zip(found[::2], found[1::2], strict=False)}
