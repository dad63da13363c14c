"""The step that gives a board a runtime environment, from a wheelhouse."""

from __future__ import annotations

import json
from collections.abc import Mapping

from agent.worker.recipes import Order, read
from playbooks.run import Step
from playbooks.site import AGENT, STARTED, STATE, Site
from playbooks.transfer import deliver, installer, need_space
from playbooks.wheels import Wheelhouse, wheelhouse

BUILD_LIMIT_S = 3600.0


def runtime_step(text: str) -> Step:
    """``text`` as for ``benchfarm-agent runtimes add``. The board builds it without a network."""

    def order(site: Site) -> Order:
        return read(text, site.machine.machine)

    def check(site: Site) -> str:
        wanted = order(site)
        listed = json.loads(site.host.ask(f"cat {STATE}/environments.json", root=True) or "[]")
        return "" if any(_is(entry, wanted) for entry in listed) else f"no {wanted.label}"

    def apply(site: Site) -> None:
        wanted = order(site)
        need_space(site, wanted.recipe.mib)
        house = _wheels(site, wanted)
        folder = deliver(site, house.wheels, f"{wanted.recipe.backend}-{house.key}")
        site.script(f"rm -f {STARTED}")
        words = (AGENT, "runtimes", "add", wanted.label, "--wheelhouse", folder)
        uv = installer(site)
        site.as_agent("env", f"PATH={uv}:/usr/bin:/bin", *words, limit_s=BUILD_LIMIT_S)

    return Step(f"runtime {text}", check, apply)


def runtime_name(text: str) -> str:
    """``backend version``, as the controller lists what answers."""
    order = read(text)
    return f"{order.recipe.backend} {order.version}"


def _is(entry: Mapping[str, object], order: Order) -> bool:
    return (entry["backend"], entry["version"]) == (order.recipe.backend, order.version)


def _wheels(site: Site, order: Order) -> Wheelhouse:
    return wheelhouse(site.cache, site.platform, sorted({r for s in order.steps for r in s}))
