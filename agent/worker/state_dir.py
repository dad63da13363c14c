"""The agent's state folder: its layout, its lock, and recovery after an agent was killed."""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.contract import codec
from agent.contract.failures import make_failure
from agent.worker.attempts.attempt import failed_result
from agent.worker.errors import AlreadyRunning
from agent.worker.isolation.child_process import read_stage
from agent.worker.uplink.outbox import Outbox


@dataclass(frozen=True)
class StateFolders:
    """Paths below the state folder."""

    state: Path

    @property
    def attempts(self) -> Path:
        return self.state / "attempts"

    @property
    def samples(self) -> Path:
        return self.state / "samples"

    @property
    def outbox(self) -> Path:
        return self.state / "outbox.sqlite"

    def make(self) -> None:
        """Create the folders."""
        for folder in (self.state, self.attempts, self.samples):
            folder.mkdir(parents=True, exist_ok=True)

    def attempt(self, attempt_id: str) -> Path:
        """The folder of one attempt."""
        return self.attempts / re.sub(r"[^A-Za-z0-9._-]", "_", attempt_id)


def mark_of(state_dir: Path) -> str:
    """The mark that every child of the agent on this state folder carries in its environment."""
    return str(state_dir.resolve())


@contextlib.contextmanager
def locked(folders: StateFolders) -> Iterator[None]:
    """Hold the lock of this state folder. Raises ``AlreadyRunning``: another agent holds it."""
    with (folders.state / "agent.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"another agent runs with the state folder {folders.state}"
            ) from None
        yield


def recover(folders: StateFolders, outbox: Outbox) -> None:
    """Report attempts that a kill or a power cut ended, so that the controller need not wait for
    their leases to expire. Deletes samples that no result needs."""
    for folder in folders.attempts.iterdir():
        with contextlib.suppress(OSError):
            attempt_id = (folder / "attempt_id").read_text("utf-8")
            stage = read_stage(folder / "trial") or "environment"
            failure = make_failure(stage, "agent_died", "the agent ended while executing it")
            outbox.put(attempt_id, codec.dumps(failed_result(attempt_id, failure)), None)
        shutil.rmtree(folder, ignore_errors=True)
    used = outbox.samples_in_use()
    for path in folders.samples.iterdir():
        if path not in used:
            path.unlink(missing_ok=True)


def begin(folder: Path, attempt_id: str) -> None:
    """Make an attempt's folder, by which the next agent sees that the attempt was begun."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "trial").mkdir(parents=True)
    (folder / "attempt_id").write_text(attempt_id, "utf-8")
