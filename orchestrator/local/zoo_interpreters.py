"""Finds an interpreter that has the framework needed to emit a format of the zoo."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Emission:
    """``emitter`` writes the format with the framework ``module``, which the environment of
    ``backend`` has; the environment variable ``variable`` may name another interpreter."""

    emitter: str
    module: str
    backend: str
    variable: str


_KERAS = Emission("emit_keras", "tensorflow", "tensorflow", "BENCHFARM_TENSORFLOW_PYTHON")
EMISSIONS = {
    "pt2": Emission("emit_torch", "torch", "pytorch", "BENCHFARM_PYTORCH_PYTHON"),
    "keras": _KERAS,
    "h5": _KERAS,
}
"""Suffix → emission, for formats whose framework this interpreter may lack."""


def find_interpreter(form: str, given: str, state_dir: Path) -> str:
    """The interpreter for ``form``: the one ``given``, or that of the environment variable, or that
    of an environment of the agent in ``state_dir``, or this one.

    Raises:
        UserError: the named interpreter cannot be executed.
        BadInput: ``environments.json`` is damaged.
        ToolMissing: no interpreter is known.
    """
    from orchestrator.zoo.errors import ToolMissing

    emission = EMISSIONS[form]
    named = os.environ.get(emission.variable, "")
    if given or named:
        return _executable(given or named, "--python" if given else emission.variable)
    listed = _listed(emission.backend, state_dir)
    if listed:
        return _executable(listed, str(state_dir))
    if importlib.util.find_spec(emission.module) is not None:
        return sys.executable
    raise ToolMissing(
        f"making {form} needs an interpreter that has {emission.module}, and none is known here: "
        f"add an environment with `benchfarm-agent runtimes add {emission.backend} --state-dir "
        f"{state_dir}`, or name one by --python PATH or {emission.variable}"
    )


def emit(form: str, python: str, name: str, path: Path, seed: int, batch: int) -> None:
    """Write the architecture as ``form`` to ``path``, in a child of ``python``.

    Raises:
        UserError: the child failed; the message is its last line.
    """
    from orchestrator import zoo
    from orchestrator.domain.errors import UserError

    emitter = EMISSIONS[form].emitter
    command = [python, "-I", str(Path(zoo.__file__).with_name("__main__.py")), emitter]
    command += [name, str(path), "--batch", str(batch), "--seed", str(seed)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(f"{name}: {python} cannot be run: {error}") from None
    if ended.returncode != 0:
        last = ended.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise UserError(f"{name}: making {form} under {python} failed: {last[0]}")


def _listed(backend: str, state_dir: Path) -> str:
    """The interpreter of the environment that the agent prefers for ``backend``; empty: none."""
    from agent.contract.versions import version_key
    from agent.worker import cli_support

    found = [e for e in cli_support.environments(state_dir).listed() if e.backend == backend]
    if not found:
        return ""
    return max(found, key=lambda e: (e.preferred, version_key(e.version))).python


def _executable(python: str, origin: str) -> str:
    from orchestrator.domain.errors import UserError

    found = shutil.which(os.path.expanduser(python))
    if found is None:
        raise UserError(f"{origin} names {python}, which is no interpreter that can be executed")
    return found
