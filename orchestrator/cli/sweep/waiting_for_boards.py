"""Naming the boards that a sweep would leave out, and waiting until they are ready."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from orchestrator.service.views import PlanView

POLL_S = 1.0


def wait(
    plan: Callable[[], PlanView],
    limit_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> PlanView:
    """Plan again and again until every board is ready, or ``limit_s`` have passed; the last plan.

    Says which boards are waited for, and again whenever that changes.
    """
    deadline, told, planned = clock() + limit_s, "", plan()
    while clock() < deadline:
        waiting = "; ".join(not_ready(planned))
        if not waiting:
            break
        if waiting != told:
            typer.echo(f"waiting for {waiting}")
            told = waiting
        sleep(POLL_S)
        planned = plan()
    return planned


def not_ready(planned: PlanView) -> list[str]:
    """``pi-01: is offline``, for each board that would not begin a trial now."""
    return [f"{b.device}: {b.not_ready}" for b in planned.boards if b.not_ready]


def plan_lines(planned: PlanView) -> list[str]:
    """A line for each board that is left out, that its trials would wait for, or that is missed."""
    lines = [f"left out: {b.device}: {b.left_out}" for b in planned.boards if b.left_out]
    lines += [
        f"not ready: {b.device} {b.not_ready}: its trials wait"
        for b in planned.boards
        if b.not_ready and not b.left_out
    ]
    lines += [f"not selected any more: {name} {why}" for name, why in planned.missed.items()]
    return lines
