"""``benchfarm up``: the controller, in the foreground."""

from __future__ import annotations

import signal
import socket
import threading

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
            if wiring.wait_online(running, device, stop):
                typer.echo(f"device: {device} is online")
        if not stop.is_set():
            typer.echo("ready; Ctrl-C stops it")
        stop.wait()
        typer.echo("stopping")


def device_name() -> str:
    """This host's name as a device's."""
    from agent.worker.join import name_from_host

    return name_from_host(socket.gethostname()) or "local"
