"""``benchfarm up``: the controller, in the foreground."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import threading
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import CliContext

if TYPE_CHECKING:
    from orchestrator.controller import Controller

BROKER_POLL_S = 1.0
OPEN_FILES = 1 << 16
"""Open files that a controller asks for: each board's connection is one."""


def up(
    context: typer.Context,
    local_agent: bool = typer.Option(
        False, "--local-agent", help="Also register this machine and run its agent."
    ),
    name: str = typer.Option("", help="This machine's device name; empty: its host name."),
    host: str = typer.Option("", help="Address to listen on."),
    port: int = typer.Option(-1, help="Port to listen on; 0: any free one."),
) -> None:
    """Run the controller: database, broker, API and scheduler. Ctrl-C stops it."""
    from orchestrator import wiring
    from orchestrator.local import setup

    _allow_connections()
    options: CliContext = context.obj
    changes: dict[str, object] = {"host": host} if host else {}
    changes |= {"port": port} if port >= 0 else {}
    settings = options.settings().model_copy(update=changes)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(wiring.controller(settings))
        typer.echo(f"controller: {running.url} (state in {settings.home})")
        typer.echo(f"broker: {running.broker.description}")
        if local_agent:
            device = name or device_name()
            stack.enter_context(setup.local_agent(running, device))
            if setup.wait_online(running, device, stop):
                typer.echo(f"device: {device} is online")
        _wait_for_broker(running, stop)
        if not stop.is_set():
            typer.echo(f"ready{except_for_whom(running)}; Ctrl-C stops it")
        stop.wait()
        typer.echo("stopping")


def _wait_for_broker(running: Controller, stop: threading.Event) -> None:
    """Wait until boards can use the broker, or ``stop`` is set; says what is waited for."""
    said = ""
    while not stop.is_set() and (why := running.broker_fault()):
        if why != said:
            typer.echo(f"no board can be given work, waiting: {why}", err=True)
            said = why
        stop.wait(BROKER_POLL_S)
    if said and not stop.is_set():
        typer.echo("the broker can be used now")


def except_for_whom(running: Controller) -> str:
    """The boards that this controller cannot serve by where it and its broker listen, and why."""
    from orchestrator.service.devices.devices import devices
    from orchestrator.settings import reaches_one_machine

    settings = running.farm.settings
    api_here = not settings.controller_url and reaches_one_machine(f"redis://{settings.host}")
    broker_here = reaches_one_machine(running.broker.url)
    if not (api_here or broker_here):
        return ""
    here = socket.gethostname()
    away = [
        d.name
        for d in devices(running.farm)
        if d.facts and d.connection != "retired" and d.facts.get("hostname") != here
    ]
    if not away:
        return ""
    names = ", ".join(away[:5]) + (f" and {len(away) - 5} more" if len(away) > 5 else "")
    why = []
    if api_here:
        why.append(f"it listens on {settings.host} alone (--host ADDRESS)")
    if broker_here:
        why.append(
            "its broker answers on this machine alone (BENCHFARM_BROKER_URL=redis://ADDRESS:6379)"
        )
    return f", except for {names}: {' and '.join(why)}"


def _allow_connections() -> None:
    """Raise the limit of open files, up to ``OPEN_FILES``: service managers and shells set 1024,
    which a thousand boards exceed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def device_name() -> str:
    """A device name made from the host name."""
    from agent.worker.uplink.enrol import name_from_host

    return name_from_host(socket.gethostname()) or "local"
