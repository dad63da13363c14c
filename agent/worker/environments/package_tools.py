"""The package tools: uv where it is installed, else venv and pip; named errors of both."""

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
"""``command(words, folder)`` runs a program in ``folder`` until it ends."""


@dataclass(frozen=True)
class CommandOutput:
    """How a program ended, and what it printed on both streams."""

    exit_code: int
    out: str
    err: str = ""


def run(words: Sequence[str], folder: Path) -> CommandOutput:
    """Run a package tool. It inherits its settings (index, cache, proxy), but no variable that
    would lead it to another interpreter or folder."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX")
    }
    try:
        ended = subprocess.run(
            list(words),
            cwd=folder,
            env={**inherited, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"},
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
    """Makes virtual environments and installs into them. ``uv``: its path; empty: venv and pip."""

    uv: str
    command: Command = run

    @property
    def name(self) -> str:
        return "uv" if self.uv else "venv and pip"

    def make(self, python: str, folder: Path, seeded: bool) -> None:
        """Make a virtual environment in ``folder``; ``seeded``: it must have pip.

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
        """Install requirements into a virtual environment.

        Args:
            wheelhouse: a folder of wheels to take instead of any index.
            by_pip: by pip, even where uv is installed.
            bare: without the dependencies of the requirements.
            lock: the only versions that may be installed.

        Raises:
            BadInput: a requirement that cannot be had.
            IndexUnreachable, DiskFull, BuildFailed.
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
        """Every distribution in it as ``name==version``, without pip itself."""
        words = [str(interpreter(environment)), "-I", "-c", _FREEZE]
        found = json.loads(self._do(words, environment.parent, "").out)
        return tuple(sorted(f"{name}=={version}" for name, version in found if name != "pip"))

    def cuda(self, environment: Path) -> str:
        """The CUDA version that its torch was built for; empty: a CPU build, or no torch."""
        words = [str(interpreter(environment)), "-I", "-c", _CUDA]
        return self._do(words, environment.parent, "").out.strip()

    def _do(self, words: Sequence[str], folder: Path, wanted: str) -> CommandOutput:
        ended = self.command(words, folder)
        if ended.exit_code != 0:
            raise named(ended.err.strip() or ended.out, wanted)
        return ended


_FREEZE = """
import json, re
from importlib import metadata
found = {(re.sub("[-_.]+", "-", d.metadata["Name"]).lower(), d.version)
         for d in metadata.distributions()}
print(json.dumps(sorted(found)))
"""


# The file that torch notes its build in: importing torch takes seconds.
_CUDA = """
import importlib.util, os, runpy
found = importlib.util.find_spec("torch")
path = os.path.join(os.path.dirname(found.origin), "version.py") if found else ""
print((runpy.run_path(path).get("cuda") or "") if path else "")
"""


def find() -> PackageTool:
    """The tool of this machine: uv where it runs (a shim may lead nowhere), else venv and pip."""
    uv = shutil.which("uv") or ""
    if uv and run([uv, "--version"], Path.cwd()).exit_code != 0:
        uv = ""
    return PackageTool(uv)


def interpreter(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    return environment / "bin" / "python"


def base_python(backend: str, recipe: Recipe, command: Command = run) -> tuple[str, str]:
    """The interpreter to build a backend's recipe on, and its version: the agent's own, or the
    newest on the path that fits. Raises ``BadInput``: there is none."""
    newest = recipe.newest_python
    own = (sys.version_info.major, sys.version_info.minor)
    if newest is None or own <= newest:
        return sys.executable, ".".join(map(str, sys.version_info[:3]))
    for minor in range(newest[1], OLDEST_PYTHON[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        ended = command([found, "-I", "-c", _VERSION], Path.cwd()) if found else None
        if found and ended is not None and ended.exit_code == 0:
            return found, ended.out.strip()
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


def named(output: str, wanted: str) -> AgentError:
    """The error that a package tool's output means; ``wanted``: what it was to install."""
    text = shortened(output)
    if _FULL.search(output):
        return DiskFull(f"the disk is full: {text}")
    if _NO_VENV.search(output):
        return BuildFailed(
            "this Python cannot make virtual environments: install uv, or the system's "
            f"python3-venv: {text}"
        )
    if _UNREACHABLE.search(output):
        return IndexUnreachable(
            f"no package index answers, so {wanted or 'nothing'} cannot be fetched: check the "
            f"network, or give the packages by --wheelhouse DIR: {text}"
        )
    if "(from versions: none)" in output:  # pip says so of an unknown name and without a network
        return BadInput(
            f"no package index offers {wanted}, or none answers: check the name and the network, "
            f"or give the packages by --wheelhouse DIR: {text}"
        )
    if _NOT_THERE.search(output):
        return BadInput(f"{wanted} cannot be installed here: {text}")
    return BuildFailed(text or "the package tool failed without a word")


def shortened(output: str) -> str:
    """The lines of a tool's output that give the reason, on one line; credentials in addresses are
    removed. pip gives the reason last, after warnings; uv as a list of causes."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    reasons = [line for line in lines if re.match(r"(error|cause|hint|×|╰)", line, re.I)]
    text = "; ".join(reasons or [line for line in lines if line][-3:])
    text = re.sub(r"://[^/\s@]+@", "://", text)
    return text if len(text) <= _MESSAGE_MAX else text[: _MESSAGE_MAX - 1] + "…"
