"""The steps that give a board a runtime environment: built from a wheelhouse, or an interpreter
there that has a vendor's bindings."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from agent import lock_files
from agent.worker.environments.recipes import OLDEST_PYTHON, RuntimeRequirement, parse
from playbooks.classes import Runtime, VendorRuntime
from playbooks.errors import Unfit
from playbooks.file_transfer import deliver, installer, need_space
from playbooks.step_runner import Step
from playbooks.target import AGENT, STARTED, STATE, USER, BoardTarget
from playbooks.wheels import Wheelhouse, wheelhouse

BUILD_LIMIT_S = 3600.0


def runtime_step(runtime: Runtime) -> Step:
    """Text as for ``benchfarm-agent runtimes add``: the board builds it without a network. A
    vendor's: an interpreter of the board is named."""
    return _named_step(runtime) if isinstance(runtime, VendorRuntime) else _built_step(runtime)


def runtime_name(runtime: Runtime) -> str:
    """``backend version``, as the controller lists what answers; of a vendor's the backend alone,
    whose version is whatever the board has."""
    if isinstance(runtime, VendorRuntime):
        return runtime.name
    wanted = parse(runtime)
    return f"{wanted.backend} {wanted.version}"


def _built_step(text: str) -> Step:
    def requirement(site: BoardTarget) -> RuntimeRequirement:
        return parse(text, site.machine.machine)

    def check(site: BoardTarget) -> str:
        wanted = requirement(site)
        return "" if any(_is(e, wanted) for e in _listed(site)) else f"no {wanted.label}"

    def apply(site: BoardTarget) -> None:
        wanted = requirement(site)
        need_space(site, wanted.recipe.mib)
        house = _wheels(site, wanted)
        folder = deliver(site, house.wheels, f"{wanted.backend}-{house.key}")
        site.script(f"rm -f {STARTED}")
        words = (AGENT, "runtimes", "add", wanted.label, "--wheelhouse", folder)
        uv = installer(site)
        site.as_agent("env", f"PATH={uv}:/usr/bin:/bin", *words, limit_s=BUILD_LIMIT_S)

    return Step(f"runtime {text}", check, apply)


def _named_step(runtime: VendorRuntime) -> Step:
    def check(site: BoardTarget) -> str:
        listed = _listed(site)
        ways = _interpreters(runtime, listed)
        there = [e["python"] for e in listed if e["backend"] == runtime.name]
        return "" if set(there) & set(ways) else f"no {runtime.name}"

    def apply(site: BoardTarget) -> None:
        ways = _interpreters(runtime, _listed(site))
        fitting = next((w for w in ways if _answers(site, runtime, w)), None)
        if fitting is None:
            tried = " nor ".join(ways) or "no interpreter"
            raise Unfit(
                f"{site.host.name}: {tried} runs {runtime.name}; expected Python {_OLDEST} or "
                f"newer that imports {', '.join(runtime.imports)}: install {runtime.packages}"
            )
        site.script(f"rm -f {STARTED}")
        site.as_agent(AGENT, "runtimes", "add", runtime.name, "--python", fitting)

    return Step(f"runtime {runtime.name}", check, apply)


_OLDEST = ".".join(map(str, OLDEST_PYTHON))


def _listed(site: BoardTarget) -> list[dict[str, str]]:
    """Nothing of a damaged list: the agent's next command puts it right."""
    text = site.host.ask(f"cat {STATE}/environments.json", root=True)
    try:
        listed = json.loads(text or "[]")
    except ValueError:
        return []
    entries = listed if isinstance(listed, list) else []
    keys = {"name", "backend", "version", "python"}
    return [entry for entry in entries if isinstance(entry, dict) and keys <= {*entry}]


def _interpreters(runtime: VendorRuntime, listed: list[dict[str, str]]) -> list[str]:
    """The paths that its ``python`` stands for on this board."""
    ways = []
    for text in runtime.python:
        if text.startswith("/"):
            ways.append(text)
        else:
            ways += [e["python"] for e in listed if e["backend"] == text]
    return ways


def _answers(site: BoardTarget, runtime: VendorRuntime, python: str) -> bool:
    """Whether it is worth trying. What was built here is; of the board's own, imports decide."""
    if python not in runtime.python:
        return True
    code = f"import sys; assert sys.version_info >= {OLDEST_PYTHON}"
    code += "".join(f"; import {name}" for name in runtime.imports)
    command = f"cd / && {shlex.quote(python)} -I -c {shlex.quote(code)}"
    return site.host.run(command, user=USER, check=False).exit_code == 0


def _is(entry: Mapping[str, object], wanted: RuntimeRequirement) -> bool:
    return (entry["backend"], entry["version"]) == (wanted.backend, wanted.version)


def _wheels(site: BoardTarget, wanted: RuntimeRequirement) -> Wheelhouse:
    needed = sorted({r for s in wanted.steps for r in s})
    pins = lock_files.pins(wanted.lock, site.platform.environment) if wanted.lock else ()
    return wheelhouse(site.cache, site.platform, needed, pins)
