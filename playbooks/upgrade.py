"""Upgrade a board to the agent and runtimes of this installation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from playbooks import steps
from playbooks.class_steps import chosen
from playbooks.connection import Login, connected
from playbooks.controller_reachability import require_controller
from playbooks.errors import InvalidRequest
from playbooks.playbook import (
    ProvisioningContext,
    board_target,
    exclusive_access,
    pinned_host_keys,
    registration,
)
from playbooks.step_runner import RunOutcome, run_steps
from playbooks.target import AGENT_PYTHON, OPT, BoardTarget


@dataclass(frozen=True)
class UpgradeOutcome:
    """``before`` and ``after``: the agent's version and build; empty if they are unknown."""

    outcome: RunOutcome
    before: str
    after: str


def upgrade(
    context: ProvisioningContext,
    device: str,
    login: Login,
    device_class: str,
    idle: Callable[[], AbstractContextManager[object]],
    *,
    host_key: str = "",
    dry_run: bool = False,
) -> UpgradeOutcome:
    """Run the steps of ``device_class`` that are not done. Meanwhile the context manager ``idle``
    keeps work off the board; it is not entered if there is nothing to do.

    Raises:
        InvalidRequest: the host is not that board.
        PlaybookError: a step failed; calling again resumes there.
    """
    todo = registration(chosen(context.classes, device_class))
    with (
        exclusive_access(context, device),
        connected(login, pinned_host_keys(context, host_key), context.waiting) as host,
    ):
        target = board_target(context, host, device, device_class)
        _require_board(target)
        steps.require(target)
        require_controller(target)
        before = _agent(target)
        if dry_run:
            return UpgradeOutcome(
                run_steps(todo, target, context.on_event, dry_run=True), before, before
            )
        planned = run_steps(todo, target, lambda _: None, dry_run=True)
        if not planned.changed:
            return UpgradeOutcome(planned, before, before)
        with idle():
            outcome = run_steps(todo, target, context.on_event)
        return UpgradeOutcome(outcome, before, _agent(target))


def _require_board(target: BoardTarget) -> None:
    owner = target.ownership().get("device")
    if owner != target.device:
        words = f"the board {owner!r}" if owner else "no board of this farm yet"
        raise InvalidRequest(
            f"{target.host.name} is {words}: make it one with `benchfarm device add "
            f"{target.device}`"
        )


def _agent(target: BoardTarget) -> str:
    """``0.1.0 (agent-1a2b…)``: the agent's version and the name of its folder."""
    program = "import agent; print(agent.__version__)"
    version = target.host.output(f"{AGENT_PYTHON} -I -c '{program}' 2>/dev/null")
    build = target.host.output(f"readlink {OPT}/agent").removeprefix("agents/")
    return f"{version} ({build})" if version and build else build
