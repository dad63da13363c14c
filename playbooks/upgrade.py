"""Bringing a board to what this controller's version installs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from playbooks import steps
from playbooks.class_steps import chosen
from playbooks.connection import Login, connected
from playbooks.controller_reachability import require_controller
from playbooks.errors import BadOrder
from playbooks.playbook import ProvisioningContext, at_work, pins, registration, site_of
from playbooks.step_runner import RunOutcome, play
from playbooks.target import AGENT_PYTHON, OPT, BoardTarget


@dataclass(frozen=True)
class Upgraded:
    """``before`` and ``after``: the agent's version and build; empty where it could not say."""

    outcome: RunOutcome
    before: str
    after: str


def upgrade(
    workshop: ProvisioningContext,
    device: str,
    login: Login,
    device_class: str,
    idle: Callable[[], AbstractContextManager[object]],
    *,
    host_key: str = "",
    dry_run: bool = False,
) -> Upgraded:
    """Do the steps of ``device_class`` that are not right, while ``idle`` keeps work off the board;
    it is not entered where there is nothing to do.

    Raises:
        BadOrder: the host is not that board.
        PlaybookError: a step could not be done; the same call carries on there.
    """
    todo = registration(chosen(workshop.classes, device_class))
    with at_work(workshop, device), connected(login, pins(workshop, host_key)) as host:
        site = site_of(workshop, host, device, device_class)
        _require_board(site)
        steps.require(site)
        require_controller(site)
        before = _agent(site)
        if dry_run:
            return Upgraded(play(todo, site, workshop.tell, dry_run=True), before, before)
        seen = play(todo, site, lambda _: None, dry_run=True)
        if not seen.changed:
            return Upgraded(seen, before, before)
        with idle():
            outcome = play(todo, site, workshop.tell)
        return Upgraded(outcome, before, _agent(site))


def _require_board(site: BoardTarget) -> None:
    owner = site.mark().get("device")
    if owner != site.device:
        words = f"the board {owner!r}" if owner else "no board of this farm yet"
        raise BadOrder(
            f"{site.host.name} is {words}: make it one with `benchfarm device add {site.device}`"
        )


def _agent(site: BoardTarget) -> str:
    """``0.1.0 (agent-1a2b…)``: its version, and the folder that its files are named by."""
    ask = "import agent; print(agent.__version__)"
    version = site.host.ask(f"{AGENT_PYTHON} -I -c '{ask}' 2>/dev/null")
    build = site.host.ask(f"readlink {OPT}/agent").removeprefix("agents/")
    return f"{version} ({build})" if version and build else build
