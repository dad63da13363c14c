"""Reference runs in child processes of an interpreter that has the runtime a format needs."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from agent.contract.child_jobs import Referenced, ReferenceJob
from agent.contract.trial import Failure
from agent.runtimes.formats import FORMATS

LIMIT_S = 600.0
MEMORY_MIB = 16384
MISSING = "runtime_missing"


@dataclass(frozen=True)
class ReferenceRunner:
    """Computes reference outputs. ``state_dir``: the local agent's, whose environments are used."""

    state_dir: Path

    def __call__(self, job: ReferenceJob) -> Referenced:
        """Run the job with time and memory limits, in this interpreter or else in the agent's
        environment for the backend, and once more in another process. A runtime that neither has
        is a failure."""
        answer = run_twice(sys.executable, job)
        if answer.failure is None or answer.failure.kind != MISSING:
            return answer
        from agent.worker.errors import AgentError

        backend = FORMATS[job.model.format].backend
        try:
            python = self._python(backend)
        except AgentError as error:
            return Referenced(failure=Failure("environment", "environments", str(error)))
        if not python:
            return Referenced(failure=Failure("environment", MISSING, self._remedy(backend)))
        return run_twice(python, job)

    def _python(self, backend: str) -> str:
        """The interpreter of the agent's environment for the backend; empty: there is none.

        Raises ``AgentError``: the list of environments cannot be read.
        """
        from agent.worker import cli_support

        environments = cli_support.environments(self.state_dir)
        if all(e.backend != backend for e in environments.listed()):
            return ""  # the agent would use this interpreter, which was tried
        return environments.resolve(backend).python

    def _remedy(self, backend: str) -> str:
        return (
            f"no {backend} runtime on the controller: add one with "
            f"`benchfarm-agent runtimes add {backend} --state-dir {self.state_dir}`"
        )


def run_twice(python: str, job: ReferenceJob) -> Referenced:
    """The answer of one process, with the outputs that another one gives otherwise."""
    first = _run_child(python, job)
    if first.failure is not None or job.expected is not None:
        return first
    folder = Path(job.folder) / "again"
    folder.mkdir()
    second = _run_child(python, replace(job, folder=str(folder), again=first.path))
    if second.failure is not None:
        message = f"in a second process, where it ran again: {second.failure.message}"
        return Referenced(failure=replace(second.failure, message=message))
    return replace(first, unrepeatable={**second.unrepeatable, **first.unrepeatable})


def _run_child(python: str, job: ReferenceJob) -> Referenced:
    from agent.worker.isolation.child_process import CancelRequest, ChildLimits
    from agent.worker.isolation.runner_client import RunnerClient

    bounds = ChildLimits(wall_s=LIMIT_S, memory_mib=MEMORY_MIB)
    with CancelRequest() as cancel:
        outcome = RunnerClient("reference").reference(python, job, Path(job.folder), bounds, cancel)
    if outcome.failure is not None:
        return Referenced(failure=outcome.failure)
    answer: Referenced = outcome.answer
    return answer
