"""The measured child, asked directly: no agent around it."""

from __future__ import annotations

import subprocess
from typing import TypeVar

from agent import codec
from agent.worker.runner import RUNNER

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
