"""``benchfarm device drain|enable``: whether a device is given work, and waiting for its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import client
from orchestrator.cli.output import console, duration

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.service.views import DeviceView

POLL_S = 0.5


def enable(context: typer.Context, name: str) -> None:
    """Give the device work again."""
    with client(context) as farm:
        found = farm.enable(name, True)
    typer.echo(f"{name} is enabled; it is {found.connection}, its health {found.health}")
    if found.waiting:
        when = "can run now" if found.connection == "online" else "can run once it is online"
        typer.echo(f"{_trials(found.waiting)} for it, and {when}")


def drain(
    context: typer.Context,
    name: str,
    wait: bool = typer.Option(False, "--wait", help="Until the running trial has ended."),
    note: str = typer.Option("", "--note", help="Why, for others: device list and sweeps show it."),
) -> None:
    """Let the running trial finish, then give the device no more work."""
    with client(context) as farm:
        found = farm.enable(name, False, note)
        if found.running is None:
            typer.echo(f"{name} is drained: nothing runs on it")
        elif not wait:
            typer.echo(f"{name} is draining: {found.running.words()} finishes, nothing follows it")
        else:
            wait_idle(farm, found)
            typer.echo(f"{name} is drained")
        if found.waiting:
            typer.echo(f"{_trials(found.waiting)} until it is enabled")


def enabled(found: DeviceView) -> str:
    """``yes``, or ``no``, with the note of who drained it."""
    if found.enabled:
        return "yes"
    return f"no: {found.drain_note}" if found.drain_note else "no"


def _trials(count: int) -> str:
    return "1 trial waits" if count == 1 else f"{count} trials wait"


def wait_idle(farm: Client, found: DeviceView) -> None:
    """Wait until no trial runs on the device, and print which one it waits for. After
    ``KeyboardInterrupt`` the device stays drained."""
    screen = console()
    if not screen.is_terminal:
        printed = ""
        while found.running is not None:
            words = found.running.words()
            if words != printed:
                typer.echo(f"{found.name}: waiting for {words}")
                printed = words
            time.sleep(POLL_S)
            found = farm.device(found.name)
        return
    began = time.monotonic()
    with screen.status("") as line:
        while found.running is not None:
            waited = duration(time.monotonic() - began)
            line.update(f"{found.name}: {found.running.words()}; waiting for {waited}")
            time.sleep(POLL_S)
            found = farm.device(found.name)


@contextlib.contextmanager
def drained(farm: Client, name: str, *, now: bool) -> Iterator[None]:
    """Keep work off the device during the block; with ``now`` a running trial is not waited for.
    Afterwards, also after an error, the device is enabled again if it was before."""
    before = farm.device(name)
    if before.enabled:
        typer.echo(f"{name} is drained for the time being")
    try:
        found = farm.enable(name, False) if before.enabled else before
        if not now:
            wait_idle(farm, found)
        yield
    finally:
        if before.enabled:
            _enable_again(farm, name)


def _enable_again(farm: Client, name: str) -> None:
    from orchestrator.domain.errors import FarmError

    try:
        farm.enable(name, True)
    except FarmError as error:
        typer.echo(
            f"{name} could not be enabled again ({error}): "
            f"run `benchfarm device enable {name}` once the controller answers",
            err=True,
        )
    else:
        typer.echo(f"{name} is enabled again, as it was")
