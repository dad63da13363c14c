"""The runtime environments of a device: the interpreter of each backend, and what it offers."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from agent.contract.child_jobs import Probed
from agent.contract.conversion_graph import Tool
from agent.contract.device import RuntimeFacts
from agent.contract.versions import fits, version_key
from agent.worker.environments import environments_file
from agent.worker.environments.conversion_planning import offered
from agent.worker.environments.environments_file import FILE_NAME as FILE_NAME
from agent.worker.environments.environments_file import RuntimeEnvironment as RuntimeEnvironment
from agent.worker.errors import AgentError, BadInput, EnvironmentMissing, PackagesMissing

log = logging.getLogger(__name__)

DEFAULT_NAME = "default"
_BACKEND = re.compile(r"[a-z0-9_]{1,40}")

Probe = Callable[[str], Probed]
"""``probe(python)`` runs the child's verb ``probe`` there; raises ``ChildFailed``."""


class Environments:
    """The listed environments of a state folder, and the default for every backend not listed.

    An interpreter is probed when it is first needed, and again by ``probe_all``. Thread-safe.
    """

    def __init__(self, state_dir: Path, probe: Probe, default_python: str = sys.executable) -> None:
        self._path = state_dir / FILE_NAME
        self._probe = probe
        self._default_python = default_python
        self._probed: dict[str, Probed | str] = {}
        self._without_packages: set[str] = set()
        self._logged: dict[str, str] = {}
        self._lock = threading.RLock()

    def listed(self) -> list[RuntimeEnvironment]:
        """The entries of ``environments.json``. Raises ``BadInput``: it cannot be repaired."""
        with self._lock:
            return environments_file.read(self._path)

    def stamp(self) -> tuple[int, int]:
        """A value that changes whenever the list is written."""
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0)
        return (found.st_ino, found.st_mtime_ns)

    def check(self, backend: str, python: str) -> RuntimeEnvironment:
        """An existing interpreter as an environment, once the backend has answered there.

        Raises:
            BadInput: no such interpreter, or no backend can have that name.
            EnvironmentMissing: the backend does not answer under it.
            ChildFailed: the probe itself failed.
        """
        if not _BACKEND.fullmatch(backend):
            raise BadInput(f"backend {backend!r}: expected letters a-z, digits and _")
        # Not resolved: the python of a virtual environment is a link to one outside of it.
        python = os.path.abspath(os.path.expanduser(python))
        if not os.access(python, os.X_OK) or os.path.isdir(python):
            raise BadInput(f"{python} is no interpreter that can be executed")
        facts = _facts_of(self._probe(python), backend)
        if facts is None or facts.missing:
            known = facts.missing if facts else "no backend of that name"
            raise EnvironmentMissing(f"{backend} does not answer under {python}: {known}")
        return RuntimeEnvironment(f"{backend}-{facts.version}", backend, facts.version, python)

    def add(self, environment: RuntimeEnvironment) -> list[RuntimeEnvironment]:
        """List an environment. Those of the same backend and version are taken off the list;
        returns them."""
        with self._lock:
            listed = self.listed()
            same = (environment.backend, environment.version)
            rest = [e for e in listed if (e.backend, e.version) != same]
            environments_file.write(self._path, [*rest, environment])
        replaced = [e for e in listed if e not in rest]
        return [e for e in replaced if e.name != environment.name]

    def remove(self, name: str) -> None:
        """Take an environment off the list."""
        with self._lock:
            environments_file.write(self._path, [e for e in self.listed() if e.name != name])

    def resolve(self, backend: str, version: str = "") -> RuntimeEnvironment:
        """The environment to run a backend in; of several that fit, the newest preferred one.

        ``version`` may be a prefix at a dot (``1.31`` finds ``1.31.1``).

        Raises:
            EnvironmentMissing: the message says what is here instead.
        """
        listed = [e for e in self.listed() if e.backend == backend]
        # a probe that failed is repeated before an attempt fails for it
        self._forget_failures([e.python for e in listed] or [self._default_python])
        found = [self._with_version_now(e) for e in listed]
        if not found:
            found = [self._default(backend)]
        fitting = [e for e in found if fits(e.version, version)]
        if not fitting:
            here = ", ".join(e.version for e in found)
            raise EnvironmentMissing(
                f"{backend} {version} is not here, only {here}: add an environment with "
                f"`benchfarm-agent runtimes add {backend}=={version}`"
            )
        return max(fitting, key=lambda e: (e.preferred, version_key(e.version)))

    def facts(self) -> tuple[RuntimeFacts, ...]:
        """What every environment offers; ``missing`` says why one cannot be probed.

        Sorted by backend, and within a backend in the order in which ``resolve`` prefers them: the
        first that fits is the one that it chooses.
        """
        listed = self.listed()
        separate = {e.backend for e in listed}
        facts = [
            replace(runtime, environment=DEFAULT_NAME)
            for runtime in self._ask(self._default_python)
            if runtime.backend not in separate
        ]
        preferred = {e.name: e.preferred for e in listed}
        facts += [self.facts_in(environment) for environment in listed]
        tools = self.tools()
        facts = [offered(f, tools) for f in facts]
        facts.sort(
            key=lambda f: (preferred.get(f.environment, True), version_key(f.version)), reverse=True
        )
        return tuple(sorted(facts, key=lambda f: f.backend))

    def tools(self) -> tuple[Tool, ...]:
        """Every converter, once for each environment that has all that it needs; where none has,
        for the one that lacks the least."""
        found: list[Tool] = []
        for name, python in self._pythons().items():
            answer = self._answer(python)
            if not isinstance(answer, str):
                found += [_placed(tool, name) for tool in answer.tools]
        complete = [tool for tool in found if not tool.missing]
        nearest: dict[str, Tool] = {}
        for tool in sorted(found, key=lambda t: len(t.missing)):
            nearest.setdefault(tool.name, tool)
        names = {tool.name for tool in complete}
        return (*complete, *(tool for name, tool in nearest.items() if name not in names))

    def python(self, name: str) -> str:
        """The interpreter of the environment of that name. Raises ``EnvironmentMissing``."""
        pythons = self._pythons()
        if name not in pythons:
            raise EnvironmentMissing(f"no environment {name!r}; there are {', '.join(pythons)}")
        return pythons[name]

    def identity(self, name: str) -> list[str]:
        """Words that identify an environment and the versions in it."""
        python = self.python(name)
        answer = self._answer(python)
        runtimes = () if isinstance(answer, str) else answer.runtimes
        return [name, python, *(f"{r.backend}=={r.version}" for r in runtimes if not r.missing)]

    def _pythons(self) -> dict[str, str]:
        return {DEFAULT_NAME: self._default_python, **{e.name: e.python for e in self.listed()}}

    def probe_all(self) -> tuple[RuntimeFacts, ...]:
        """``facts``, after probing every interpreter again."""
        with self._lock:
            self._probed.clear()
        return self.facts()

    def silent(self) -> list[str]:
        """Interpreters whose last probe failed, and may go better: not the agent's own, where it
        has no numpy and environments are listed that run the backends."""
        with self._lock:
            spare = self._without_packages if self.listed() else set()
            return [
                python
                for python, answer in self._probed.items()
                if isinstance(answer, str) and python not in spare
            ]

    def ask_silent(self) -> tuple[RuntimeFacts, ...]:
        """``facts``, after probing the ``silent`` ones again: a probe that was killed, or timed out
        on a busy board, says nothing about its runtime."""
        self._forget_failures(self.silent())
        return self.facts()

    def _forget_failures(self, pythons: Iterable[str]) -> None:
        with self._lock:
            for python in pythons:
                if isinstance(self._probed.get(python), str):
                    del self._probed[python]

    def facts_in(self, environment: RuntimeEnvironment) -> RuntimeFacts:
        """What the environment's backend answers to a probe there."""
        answer = self._answer(environment.python)
        if isinstance(answer, str):
            return RuntimeFacts(
                environment.backend, environment.version, environment.name, missing=answer
            )
        facts = _facts_of(answer, environment.backend)
        if facts is None:
            missing = f"the runner has no backend {environment.backend!r}"
            return RuntimeFacts(environment.backend, "", environment.name, missing=missing)
        return replace(facts, environment=environment.name)

    def _with_version_now(self, environment: RuntimeEnvironment) -> RuntimeEnvironment:
        """With the version that answers now: packages may have been upgraded since."""
        facts = self.facts_in(environment)
        return replace(environment, version=facts.version or environment.version)

    def _default(self, backend: str) -> RuntimeEnvironment:
        answer = self._answer(self._default_python)
        if isinstance(answer, str):
            raise EnvironmentMissing(f"the agent's own interpreter cannot be asked: {answer}")
        facts = _facts_of(answer, backend)
        if facts is None:
            names = ", ".join(r.backend for r in answer.runtimes) or "none"
            raise EnvironmentMissing(f"this agent has no backend {backend!r}; it has: {names}")
        if facts.missing:
            raise EnvironmentMissing(f"{backend} does not answer here: {facts.missing}")
        return RuntimeEnvironment(DEFAULT_NAME, backend, facts.version, self._default_python)

    def _ask(self, python: str) -> Iterable[RuntimeFacts]:
        answer = self._answer(python)
        if isinstance(answer, str):
            self._log_once(python, answer)
            return ()
        return answer.runtimes

    def _log_once(self, python: str, why: str) -> None:
        """Log why an interpreter gives no answer, unless that was logged before. Where environments
        are listed, the agent's own need not run any backend, nor have what a backend needs."""
        if self._logged.get(python) == why:
            return
        self._logged[python] = why
        listed, expected = bool(self.listed()), python in self._without_packages
        level = (logging.DEBUG if expected else logging.INFO) if listed else logging.ERROR
        log.log(level, "%s cannot be asked for its runtimes: %s", python, why)

    def _answer(self, python: str) -> Probed | str:
        with self._lock:
            if python not in self._probed:
                self._without_packages.discard(python)
                try:
                    self._probed[python] = self._probe(python)
                except (AgentError, OSError) as error:
                    self._probed[python] = str(error)
                    if isinstance(error, PackagesMissing):
                        self._without_packages.add(python)
            return self._probed[python]


def _placed(tool: Tool, environment: str) -> Tool:
    edges = tuple(replace(edge, environment=environment) for edge in tool.edges)
    return replace(tool, edges=edges, environment=environment)


def _facts_of(probed: Probed, backend: str) -> RuntimeFacts | None:
    return next((r for r in probed.runtimes if r.backend == backend), None)
