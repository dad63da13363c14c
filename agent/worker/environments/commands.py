"""The commands ``runtimes add|remove|list``, under one lock for a state folder."""

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
"""Held by a running agent during each attempt, and here while an environment is deleted: an attempt
must not lose the environment that it converts or measures in."""


@dataclass(frozen=True)
class ListedEnvironment:
    """What answers in an environment; ``built``: its manifest where it was built here; ``warning``:
    a flaw of it."""

    facts: RuntimeFacts
    built: EnvironmentManifest | None
    warning: str = ""


@dataclass(frozen=True)
class RuntimeCommands:
    """The environments of a state folder, and the builder of new ones."""

    state_dir: Path
    environments: Environments
    builder: EnvironmentBuilder

    def listing(self) -> list[ListedEnvironment]:
        """Every runtime of this device, with its environment; or why it does not answer."""
        return [self._listed(facts) for facts in self.environments.facts()]

    def _listed(self, facts: RuntimeFacts) -> ListedEnvironment:
        built = self.builder.manifest(facts.environment) if facts.environment else None
        return ListedEnvironment(facts, built, self.builder.warning(built) if built else "")

    def build(self, text: str, wheelhouse: Path | None, note: Note) -> RuntimeEnvironment:
        """Build what ``NAME[@VARIANT][==VERSION]`` names, or find it built, and list it.

        Raises:
            BadInput: that name or version cannot be built.
            AgentError: as ``EnvironmentBuilder.build``.
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
            self._enlist(environment, note)
        return environment

    def add(self, backend: str, python: str, note: Note) -> RuntimeEnvironment:
        """List an existing interpreter. Raises what ``Environments.check`` raises."""
        environment = self.environments.check(backend, python)
        with self._locked(note):
            self._enlist(environment, note)
        return environment

    def remove(self, text: str, note: Note, *, force: bool = False) -> RuntimeEnvironment:
        """Take an environment off the list, by its name or as ``BACKEND==VERSION``. What was built
        here is deleted; an interpreter that was only named stays.

        Waits for the end of an attempt that runs, unless ``force``. Raises ``BadInput``.
        """
        with self._locked(note):
            found = _one(self.environments.listed(), text)
            with contextlib.nullcontext() if force else self._between_attempts(note, "--force"):
                self.environments.remove(found.name)
                self.builder.discard(found.name)
        return found

    def _enlist(self, environment: RuntimeEnvironment, note: Note) -> None:
        """List it, and delete what it replaces: no sweep could name that any more."""
        replaced = self.environments.add(environment)
        if replaced:
            with self._between_attempts(note):
                for old in replaced:
                    self.builder.discard(old.name)

    @contextlib.contextmanager
    def _locked(self, note: Note) -> Iterator[None]:
        self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        waiting = f"waiting for another `runtimes` command on {self.state_dir} …"
        with _flocked(self.state_dir / LOCK_NAME, waiting, note):
            yield

    @contextlib.contextmanager
    def _between_attempts(self, note: Note, instead: str = "") -> Iterator[None]:
        """Wait for the attempt that runs; none begins within. ``instead``: the option that does not
        wait."""
        way_out = f" ({instead} does not wait)" if instead else ""
        waiting = f"waiting for the end of the attempt that runs on this device{way_out} …"
        with _flocked(self.state_dir / ATTEMPT_LOCK_NAME, waiting, note):
            yield


@contextlib.contextmanager
def _flocked(path: Path, waiting: str, note: Note) -> Iterator[None]:
    """Hold an exclusive lock; ``waiting`` is told where another process holds it."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _one(listed: list[RuntimeEnvironment], text: str) -> RuntimeEnvironment:
    """The environment that ``text`` names. Raises ``BadInput``: none, or several."""
    found = [e for e in listed if e.name == text]
    found = found or [e for e in listed if text in (e.backend, f"{e.backend}=={e.version}")]
    if len(found) != 1:
        names = ", ".join(e.name for e in (found or listed)) or "none"
        what = f"{text!r} means several environments" if found else f"no environment {text!r}"
        raise BadInput(f"{what}; {'choose from' if found else 'listed are'}: {names}")
    return found[0]
