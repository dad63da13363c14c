"""One control group for each board; its systemd owns the groups below it, and no other."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
REAPED_LIMIT_S = 10.0
HIERARCHIES = ("memory", "freezer", "cpu", "systemd", "unified")
"""Hierarchies of version 1, and the unified one beside them. With version 2 alone: the root."""


def _parents() -> list[Path]:
    found = [ROOT / name for name in HIERARCHIES if (ROOT / name).is_dir()]
    return found or [ROOT]


@dataclass(frozen=True)
class Group:
    """The control group ``name`` in every hierarchy that this machine has."""

    name: str

    def make(self) -> None:
        for folder in self._folders():
            folder.mkdir(exist_ok=True)

    def enter_script(self) -> str:
        """Shell commands that move the shell itself into the group."""
        return "".join(f"echo $$ > {folder}/cgroup.procs\n" for folder in self._folders())

    def freeze(self, frozen: bool) -> None:
        """Freeze or thaw every process of the group."""
        (ROOT / "freezer" / self.name / "freezer.state").write_text(
            "FROZEN" if frozen else "THAWED"
        )

    def kill(self) -> None:
        """Kill every process of the group and of the groups below."""
        for folder in self._folders():
            for members in folder.rglob("cgroup.procs"):
                with contextlib.suppress(OSError):
                    for pid in members.read_text().split():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(pid), signal.SIGKILL)

    def remove(self) -> None:
        """Wait until killed processes are reaped, then remove the group: it must be empty."""
        deadline = time.monotonic() + REAPED_LIMIT_S
        while left := [folder for folder in self._folders() if folder.is_dir()]:
            for folder in left:
                below = [path for path in folder.rglob("*") if path.is_dir()]
                for path in (*sorted(below, key=lambda p: -len(p.parts)), folder):
                    with contextlib.suppress(OSError):
                        path.rmdir()
            if time.monotonic() > deadline:
                raise TimeoutError(f"something still runs in {left[0]}")
            time.sleep(0.02)

    def _folders(self) -> list[Path]:
        return [parent / self.name for parent in _parents()]
