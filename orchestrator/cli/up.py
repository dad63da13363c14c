"""``benchfarm up``: the controller, in the foreground."""

from __future__ import annotations

import signal
import socket
import threading
from pathlib import Path

import typer

from orchestrator.cli.context import State


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
    import contextlib

    from orchestrator import wiring

    state: State = context.obj
    changes: dict[str, object] = {"host": host} if host else {}
    changes |= {"port": port} if port >= 0 else {}
    settings = state.settings().model_copy(update=changes)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(wiring.controller(settings))
        typer.echo(f"controller: {running.url} (state in {settings.home})")
        typer.echo(f"broker: {running.broker.description}")
        if local_agent:
            device = name or device_name()
            stack.enter_context(wiring.local_agent(running, device))
            wiring.wait_online(running, device)
            typer.echo(f"device: {device} is online")
        typer.echo("ready; Ctrl-C stops it")
        stop.wait()
        typer.echo("stopping")


def device_name() -> str:
    """This host's name as a device's: what does not fit becomes ``-``."""
    text = "".join(c if c.isascii() and c.isalnum() else "-" for c in socket.gethostname().lower())
    return text.strip("-")[:63].strip("-") or "local"


def default_demo_home(home: str) -> Path:
    from orchestrator.settings import Settings

    return Path(home).resolve() if home else Settings().home / "demo"
