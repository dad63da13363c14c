"""The commands ``runtimes add|remove|list``: what is built and what is listed, under one lock."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.contract.device import RuntimeFacts
from agent.worker.environments import recipes
from agent.worker.environments.builder import EnvironmentBuilder, EnvironmentManifest, Note
from agent.worker.environments.environments import Environments, RuntimeEnvironment
from agent.worker.errors import BadInput

LOCK_NAME = "runtimes.lock"
ATTEMPT_LOCK_NAME = "attempt.lock"
"""Held by a running agent during each attempt, and here while an environment goes: what an attempt
converts or measures with must not be deleted under it."""


@dataclass(frozen=True)
class ListedEnvironment:
    """What answers in an environment; ``built`` if it was built here, and what it then cost;
    ``warning``: what is not as it should be there."""

    facts: RuntimeFacts
    built: EnvironmentManifest | None
    warning: str = ""


@dataclass(frozen=True)
class RuntimeCommands:
    """The environments of a state folder, and the building of new ones."""

    state_dir: Path
    environments: Environments
    builder: EnvironmentBuilder

    def listing(self) -> list[ListedEnvironment]:
        """Everything that answers here, or why not, with what was built."""
        return [self._listed(facts) for facts in self.environments.facts()]

    def _listed(self, facts: RuntimeFacts) -> ListedEnvironment:
        built = self.builder.manifest(facts.environment) if facts.environment else None
        return ListedEnvironment(facts, built, self.builder.warning(built) if built else "")

    def build(self, text: str, wheelhouse: Path | None, note: Note) -> RuntimeEnvironment:
        """Build (or find) what ``NAME[@VARIANT][==VERSION]`` says, and list it.

        Raises:
            BadInput: not to be had by that name or version. Else as ``EnvironmentBuilder.build``.
        """
        wanted = recipes.parse(text)
        with self._locked(note):
            manifest = self.builder.build(wanted, wheelhouse, note)
            environment = RuntimeEnvironment(
                manifest.name,
                manifest.backend,
                manifest.version,
                str(self.builder.python(manifest.name)),
                preferred=recipes.is_default(wanted.backend, wanted.recipe.variant),
            )
            self._list(environment, note)
        return environment

    def add(self, backend: str, python: str, note: Note) -> RuntimeEnvironment:
        """List an existing interpreter. Raises as ``Environments.check``."""
        environment = self.environments.check(backend, python)
        with self._locked(note):
            self._list(environment, note)
        return environment

    def remove(self, text: str, note: Note, *, force: bool = False) -> RuntimeEnvironment:
        """Strike an environment off the list, named by itself or as ``BACKEND==VERSION``. What was
        built here is deleted; an interpreter that was only named stays.

        Waits for the end of an attempt that runs, unless ``force``. Raises ``BadInput``.
        """
        with self._locked(note):
            found = _one(self.environments.listed(), text)
            with contextlib.nullcontext() if force else self._between_attempts(note, "--force"):
                self.environments.strike(found.name)
                self.builder.discard(found.name)
        return found

    def _list(self, environment: RuntimeEnvironment, note: Note) -> None:
        """What it takes the place of is discarded too: no sweep could name it any more."""
        gone = self.environments.enlist(environment)
        if gone:
            with self._between_attempts(note):
                for old in gone:
                    self.builder.discard(old.name)

    @contextlib.contextmanager
    def _locked(self, note: Note) -> Iterator[None]:
        self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        waiting = f"waiting for another `runtimes` command on {self.state_dir} …"
        with _flocked(self.state_dir / LOCK_NAME, waiting, note):
            yield

    @contextlib.contextmanager
    def _between_attempts(self, note: Note, instead: str = "") -> Iterator[None]:
        """None runs inside, and none begins."""
        way_out = f" ({instead} does not wait)" if instead else ""
        waiting = f"waiting for the end of the attempt that runs on this device{way_out} …"
        with _flocked(self.state_dir / ATTEMPT_LOCK_NAME, waiting, note):
            yield


@contextlib.contextmanager
def _flocked(path: Path, waiting: str, note: Note) -> Iterator[None]:
    """Hold an exclusive lock; ``waiting`` is noted where another process has it."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _one(listed: list[RuntimeEnvironment], text: str) -> RuntimeEnvironment:
    found = [e for e in listed if e.name == text]
    found = found or [e for e in listed if text in (e.backend, f"{e.backend}=={e.version}")]
    if len(found) != 1:
        names = ", ".join(e.name for e in (found or listed)) or "none"
        what = f"{text!r} means several environments" if found else f"no environment {text!r}"
        raise BadInput(f"{what}; {'choose from' if found else 'listed are'}: {names}")
    return found[0]
