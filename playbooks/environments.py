"""Steps that give a board a runtime environment: built from a wheelhouse, or an interpreter of the
board that has a vendor's bindings."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from agent import lock_files
from agent.worker.environments.recipes import OLDEST_PYTHON, RuntimeRequirement, parse
from playbooks.classes import Runtime, VendorRuntime
from playbooks.errors import Unfit
from playbooks.file_transfer import deliver, install_uv, require_space
from playbooks.step_runner import Step
from playbooks.target import AGENT, STARTED, STATE, USER, BoardTarget
from playbooks.wheels import Wheelhouse, fetch_wheelhouse

BUILD_LIMIT_S = 3600.0


def runtime_step(runtime: Runtime) -> Step:
    """Text (an argument of ``benchfarm-agent runtimes add``): the board builds the environment
    offline. A vendor's runtime: an interpreter of the board is registered."""
    return _vendor_step(runtime) if isinstance(runtime, VendorRuntime) else _built_step(runtime)


def runtime_name(runtime: Runtime) -> str:
    """``backend version``, the form in which the controller lists runtimes; a vendor's runtime has
    any version, and is the backend alone."""
    if isinstance(runtime, VendorRuntime):
        return runtime.name
    wanted = parse(runtime)
    return f"{wanted.backend} {wanted.version}"


def _built_step(text: str) -> Step:
    def requirement(target: BoardTarget) -> RuntimeRequirement:
        return parse(text, target.machine.machine)

    def check(target: BoardTarget) -> str:
        wanted = requirement(target)
        return "" if any(_is(e, wanted) for e in _listed(target)) else f"no {wanted.label}"

    def apply(target: BoardTarget) -> None:
        wanted = requirement(target)
        require_space(target, wanted.recipe.mib)
        wheelhouse = _wheels(target, wanted)
        folder = deliver(target, wheelhouse.wheels, f"{wanted.backend}-{wheelhouse.key}")
        target.script(f"rm -f {STARTED}")
        words = (AGENT, "runtimes", "add", wanted.label, "--wheelhouse", folder)
        uv = install_uv(target)
        target.as_agent("env", f"PATH={uv}:/usr/bin:/bin", *words, limit_s=BUILD_LIMIT_S)

    return Step(f"runtime {text}", check, apply)


def _vendor_step(runtime: VendorRuntime) -> Step:
    def check(target: BoardTarget) -> str:
        listed = _listed(target)
        candidates = _interpreters(runtime, listed)
        registered = [e["python"] for e in listed if e["backend"] == runtime.name]
        return "" if set(registered) & set(candidates) else f"no {runtime.name}"

    def apply(target: BoardTarget) -> None:
        candidates = _interpreters(runtime, _listed(target))
        fitting = next((c for c in candidates if _is_usable(target, runtime, c)), None)
        if fitting is None:
            tried = " nor ".join(candidates) or "no interpreter"
            raise Unfit(
                f"{target.host.name}: {tried} runs {runtime.name}; expected Python {_OLDEST} or "
                f"newer that imports {', '.join(runtime.imports)}: install {runtime.packages}"
            )
        target.script(f"rm -f {STARTED}")
        target.as_agent(AGENT, "runtimes", "add", runtime.name, "--python", fitting)

    return Step(f"runtime {runtime.name}", check, apply)


_OLDEST = ".".join(map(str, OLDEST_PYTHON))


def _listed(target: BoardTarget) -> list[dict[str, str]]:
    """The environments that the agent has; none if its list is damaged, which its next command
    repairs."""
    text = target.host.output(f"cat {STATE}/environments.json", root=True)
    try:
        listed = json.loads(text or "[]")
    except ValueError:
        return []
    entries = listed if isinstance(listed, list) else []
    keys = {"name", "backend", "version", "python"}
    return [entry for entry in entries if isinstance(entry, dict) and keys <= {*entry}]


def _interpreters(runtime: VendorRuntime, listed: list[dict[str, str]]) -> list[str]:
    """The paths on this board that ``runtime.python`` stands for."""
    paths = []
    for text in runtime.python:
        if text.startswith("/"):
            paths.append(text)
        else:
            paths += [e["python"] for e in listed if e["backend"] == text]
    return paths


def _is_usable(target: BoardTarget, runtime: VendorRuntime, python: str) -> bool:
    """Whether an interpreter imports the bindings; one of a built environment is not tried."""
    if python not in runtime.python:
        return True
    code = f"import sys; assert sys.version_info >= {OLDEST_PYTHON}"
    code += "".join(f"; import {name}" for name in runtime.imports)
    command = f"cd / && {shlex.quote(python)} -I -c {shlex.quote(code)}"
    return target.host.run(command, user=USER, check=False).exit_code == 0


def _is(entry: Mapping[str, object], wanted: RuntimeRequirement) -> bool:
    return (entry["backend"], entry["version"]) == (wanted.backend, wanted.version)


def _wheels(target: BoardTarget, wanted: RuntimeRequirement) -> Wheelhouse:
    needed = sorted({r for s in wanted.steps for r in s})
    constraints = lock_files.pins(wanted.lock, target.platform.environment) if wanted.lock else ()
    with target.waiting(f"{wanted.label}'s packages from the package index"):
        return fetch_wheelhouse(target.cache, target.platform, needed, constraints)
