"""The package tools: uv where it is, else venv and pip; what they say, as named errors."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.runtimes.manifest import Recipe
from agent.worker.environments.recipes import OLDEST_PYTHON
from agent.worker.errors import AgentError, BadInput, BuildFailed, DiskFull, IndexUnreachable

TOOL_LIMIT_S = 3600.0
_MESSAGE_MAX = 400

Command = Callable[[Sequence[str], Path], "CommandOutput"]
"""``command(words, folder)`` runs a program in ``folder`` to its end."""


@dataclass(frozen=True)
class CommandOutput:
    """How a program ended, and what it printed on both streams."""

    exit_code: int
    out: str
    err: str = ""


def run(words: Sequence[str], folder: Path) -> CommandOutput:
    """Run a package tool. Its own settings (index, cache, proxy) are taken from the environment;
    what would lead it to another interpreter or folder is not."""
    outer = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX")
    }
    try:
        ended = subprocess.run(
            list(words),
            cwd=folder,
            env={**outer, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TOOL_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return CommandOutput(
            -1, "", f"{Path(words[0]).name} was not done within {TOOL_LIMIT_S:.0f} s"
        )
    except OSError as error:
        return CommandOutput(-1, "", f"{words[0]}: {error.strerror}")
    return CommandOutput(ended.returncode, ended.stdout, ended.stderr)


@dataclass(frozen=True)
class PackageTool:
    """Makes virtual environments and installs into them. ``uv`` empty: venv and pip are used."""

    uv: str
    command: Command = run

    @property
    def name(self) -> str:
        return "uv" if self.uv else "venv and pip"

    def make(self, python: str, folder: Path, seeded: bool) -> None:
        """A new virtual environment in ``folder``; ``seeded``: it must have pip.

        Raises:
            BuildFailed, DiskFull: the tool's own reason.
        """
        if self.uv and not seeded:
            words = [self.uv, "venv", "--quiet", "--no-python-downloads", "--no-project"]
            self._do([*words, "--python", python, str(folder)], folder.parent, "")
            return
        self._do([python, "-I", "-m", "venv", str(folder)], folder.parent, "")

    def install(
        self,
        environment: Path,
        requirements: Sequence[str],
        wheelhouse: Path | None,
        by_pip: bool,
        bare: bool = False,
        lock: Path | None = None,
    ) -> None:
        """Install into a virtual environment, with a ``wheelhouse`` from there alone. ``bare``:
        without what the requirements need themselves. ``lock``: at no versions but its.

        Raises:
            BadInput: a requirement that cannot be had. IndexUnreachable, DiskFull, BuildFailed.
        """
        python = str(interpreter(environment))
        if self.uv and not by_pip:
            words = [self.uv, "pip", "install", "--quiet", "--no-progress", "--python", python]
            words += ["--offline", "--no-index"] if wheelhouse else []
        else:
            words = [python, "-I", "-m", "pip", "install", "--quiet", "--progress-bar", "off"]
            words += ["--no-index"] if wheelhouse else []
        words += ["--find-links", str(wheelhouse)] if wheelhouse else []
        words += ["--no-deps"] if bare else []
        words += ["--constraint", str(lock)] if lock else []
        self._do([*words, *requirements], environment.parent, requirements[0])

    def frozen(self, environment: Path) -> tuple[str, ...]:
        """Every distribution in it as ``name==version``, but pip itself."""
        words = [str(interpreter(environment)), "-I", "-c", _FREEZE]
        found = json.loads(self._do(words, environment.parent, "").out)
        return tuple(sorted(f"{name}=={version}" for name, version in found if name != "pip"))

    def cuda(self, environment: Path) -> str:
        """The CUDA version that the torch in it was built for; empty: a CPU build, or no torch."""
        words = [str(interpreter(environment)), "-I", "-c", _CUDA]
        return self._do(words, environment.parent, "").out.strip()

    def _do(self, words: Sequence[str], folder: Path, wanted: str) -> CommandOutput:
        said = self.command(words, folder)
        if said.exit_code != 0:
            raise named(said.err.strip() or said.out, wanted)
        return said


_FREEZE = """
import json, re
from importlib import metadata
found = {(re.sub("[-_.]+", "-", d.metadata["Name"]).lower(), d.version)
         for d in metadata.distributions()}
print(json.dumps(sorted(found)))
"""


# torch's own note of its build, read without importing torch, which takes seconds.
_CUDA = """
import importlib.util, os, runpy
found = importlib.util.find_spec("torch")
path = os.path.join(os.path.dirname(found.origin), "version.py") if found else ""
print((runpy.run_path(path).get("cuda") or "") if path else "")
"""


def find() -> PackageTool:
    """What this machine has: uv counts if it runs (a shim may lead nowhere)."""
    uv = shutil.which("uv") or ""
    if uv and run([uv, "--version"], Path.cwd()).exit_code != 0:
        uv = ""
    return PackageTool(uv)


def interpreter(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    return environment / "bin" / "python"


def base_python(backend: str, recipe: Recipe, command: Command = run) -> tuple[str, str]:
    """An interpreter that a backend's recipe can be built on, and its version: the agent's own, or
    one on the path. Raises ``BadInput``."""
    newest = recipe.newest_python
    own = (sys.version_info.major, sys.version_info.minor)
    if newest is None or own <= newest:
        return sys.executable, ".".join(map(str, sys.version_info[:3]))
    for minor in range(newest[1], OLDEST_PYTHON[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        said = command([found, "-I", "-c", _VERSION], Path.cwd()) if found else None
        if found and said is not None and said.exit_code == 0:
            return found, said.out.strip()
    raise BadInput(
        f"{recipe.package} runs on Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} to "
        f"{newest[0]}.{newest[1]}, and none of them is on the path (the agent runs on "
        f"{own[0]}.{own[1]}): install one, or name an interpreter that has the runtime: "
        f"`benchfarm-agent runtimes add {backend} --python PATH`"
    )


_VERSION = "import platform; print(platform.python_version())"

_FULL = re.compile(r"no space left on device|disk quota exceeded|os error 28\b", re.I)
_UNREACHABLE = re.compile(
    r"failed to fetch|error sending request|name resolution|newconnectionerror|connecttimeout|"
    r"max retries exceeded|network was disabled|connection (?:refused|reset)|dns error|"
    r"read timed out|cannot connect to proxy|proxyerror",
    re.I,
)
_NOT_THERE = re.compile(
    r"no solution found|no matching distribution|could not find a version|"
    r"not found in the (?:package registry|provided package locations)|unsatisfiable",
    re.I,
)
_NO_VENV = re.compile(r"ensurepip is not available|No module named (?:venv|ensurepip)")


def named(said: str, wanted: str) -> AgentError:
    """What a package tool printed, as the error it means."""
    text = shortened(said)
    if _FULL.search(said):
        return DiskFull(f"the disk is full: {text}")
    if _NO_VENV.search(said):
        return BuildFailed(
            "this Python cannot make virtual environments: install uv, or the system's "
            f"python3-venv: {text}"
        )
    if _UNREACHABLE.search(said):
        return IndexUnreachable(
            f"no package index answers, so {wanted or 'nothing'} cannot be fetched: check the "
            f"network, or give the packages by --wheelhouse DIR: {text}"
        )
    if "(from versions: none)" in said:  # pip's words for an unknown name and for a silent network
        return BadInput(
            f"no package index offers {wanted}, or none answers: check the name and the network, "
            f"or give the packages by --wheelhouse DIR: {text}"
        )
    if _NOT_THERE.search(said):
        return BadInput(f"{wanted} cannot be installed here: {text}")
    return BuildFailed(text or "the package tool failed without a word")


def shortened(said: str) -> str:
    """The telling lines of a tool's output on one line, without credentials that an address holds.

    pip tells last and after warnings; uv tells in causes.
    """
    lines = [" ".join(line.split()) for line in said.splitlines()]
    telling = [line for line in lines if re.match(r"(error|cause|hint|×|╰)", line, re.I)]
    text = "; ".join(telling or [line for line in lines if line][-3:])
    text = re.sub(r"://[^/\s@]+@", "://", text)
    return text if len(text) <= _MESSAGE_MAX else text[: _MESSAGE_MAX - 1] + "…"
