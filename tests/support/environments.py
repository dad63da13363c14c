"""The interpreters of the environments that ``make runtimes`` built.

An environment is named as ``runtimes add`` names it: ``NAME`` or ``NAME@VARIANT``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agent.contract.versions import fits, version_key
from agent.worker.environments import environments_file, recipes

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "BENCHFARM_TEST_RUNTIMES"
"""Environment variable: the state folder that ``make runtimes`` built the environments in."""


class NotBuilt(LookupError):
    """An environment is missing; the message says how to get it."""


def state_dir() -> Path:
    """The state folder of the environments that tests and benchmarks use."""
    return Path(os.environ.get(VARIABLE) or ROOT / ".runtimes")


def python_of(label: str) -> str:
    """The interpreter of an environment; this one where the runtime has no environment of its own.

    Raises:
        NotBuilt: that variant is not listed.
    """
    name, _, variant = label.partition("@")
    listed = environments_file.read(state_dir() / environments_file.FILE_NAME)
    found = [e for e in listed if e.backend == name]
    if variant:
        version = recipes.parse(label).version
        found = [e for e in found if fits(e.version, version)]
        if not found:
            raise NotBuilt(f"no environment {label}=={version} in {state_dir()}: `make runtimes`")
    if not found:
        return sys.executable
    return max(found, key=lambda e: (e.preferred, version_key(e.version))).python
