"""A control group of its own for each board: its systemd owns what lies below, and nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
HIERARCHIES = ("memory", "freezer", "cpu", "systemd", "unified")
"""Version 1, and the unified one beside it; on a machine with version 2 alone, the root itself."""


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
        """Shell commands that move the shell itself in."""
        return "".join(f"echo $$ > {folder}/cgroup.procs\n" for folder in self._folders())

    def freeze(self, frozen: bool) -> None:
        """Hang everything within, or let it go on."""
        (ROOT / "freezer" / self.name / "freezer.state").write_text(
            "FROZEN" if frozen else "THAWED"
        )

    def kill(self) -> None:
        """What is still in it, wherever below."""
        for folder in self._folders():
            for members in folder.rglob("cgroup.procs"):
                with contextlib.suppress(OSError):
                    for pid in members.read_text().split():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(pid), signal.SIGKILL)

    def remove(self) -> None:
        for folder in self._folders():
            for below in sorted(folder.rglob("*"), key=lambda p: -len(p.parts)):
                if below.is_dir():
                    with contextlib.suppress(OSError):
                        below.rmdir()
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _folders(self) -> list[Path]:
        return [parent / self.name for parent in _parents()]
