"""Reference runs in children of an interpreter that has the runtime which a format needs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from agent.contract.child_jobs import Referenced, ReferenceJob
from agent.contract.trial import Failure
from agent.runtimes.formats import FORMATS

LIMIT_S = 600.0
MEMORY_MIB = 16384
MISSING = "runtime_missing"


@dataclass(frozen=True)
class ReferenceRunner:
    """``state_dir``: of this machine's own agent, whose runtime environments serve here too."""

    state_dir: Path

    def __call__(self, job: ReferenceJob) -> Referenced:
        """Run the job under a time and a memory limit: under this interpreter, else in the agent's
        environment of the backend. A runtime that is in neither is a failure that says so."""
        answer = _run(sys.executable, job)
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
        return _run(python, job)

    def _python(self, backend: str) -> str:
        """The interpreter of the environment that the agent would run the backend in; empty: it has
        none. Raises ``AgentError``: what lists them cannot be read."""
        from agent.worker import cli_support

        environments = cli_support.environments(self.state_dir)
        if all(e.backend != backend for e in environments.listed()):
            return ""  # the agent would take this interpreter, which has been asked
        return environments.resolve(backend).python

    def _remedy(self, backend: str) -> str:
        return (
            f"no {backend} runtime on the controller: add one with "
            f"`benchfarm-agent runtimes add {backend} --state-dir {self.state_dir}`"
        )


def _run(python: str, job: ReferenceJob) -> Referenced:
    from agent.worker.isolation.child_process import CancelRequest, ChildLimits
    from agent.worker.isolation.runner_client import RunnerClient

    bounds = ChildLimits(wall_s=LIMIT_S, memory_mib=MEMORY_MIB)
    with CancelRequest() as cancel:
        outcome = RunnerClient("reference").reference(python, job, Path(job.folder), bounds, cancel)
    if outcome.failure is not None:
        return Referenced(failure=outcome.failure)
    answer: Referenced = outcome.answer
    return answer
