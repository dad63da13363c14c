"""Processes under a runtime's interpreter: the measured child with no agent around it, scripts."""

from __future__ import annotations

import subprocess
from typing import TypeVar

from agent.contract import codec
from agent.worker.isolation.runner_client import RUNNER

T = TypeVar("T")


def ask(python: str, verb: str, job: object, answer: type[T]) -> T:
    """Its answer to ``verb``, in a new process under ``python``."""
    ended = subprocess.run(
        [python, "-I", str(RUNNER), verb],
        input=codec.dumps(job).encode(),
        capture_output=True,
        check=True,
    )
    return codec.loads(answer, ended.stdout)


def output(python: str, script: object, *arguments: object) -> list[str]:
    """The lines that a script prints under ``python``. Raises ``SystemExit`` where it fails."""
    command = [python, "-I", str(script), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stderr[-2000:]}")
    return ended.stdout.splitlines()
