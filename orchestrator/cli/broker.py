"""``benchfarm broker``: the users of the farm's own Redis."""

from __future__ import annotations

import secrets
from pathlib import Path

import typer

from orchestrator.cli.context import client
from orchestrator.cli.output import require_writable

app = typer.Typer(help="The broker's users.", no_args_is_help=True)


@app.command("acl")
def acl(
    context: typer.Context,
    output: Path | None = typer.Option(
        None, "--output", help="Write there, mode 0600; else to the terminal."
    ),
) -> None:
    """An ACL file for Redis: its open user off, one for the controller, one for each device."""
    from agent.worker.config import write_atomically
    from orchestrator.broker.redis_acl import CONTROLLER, controller_line, with_credentials

    require_writable(output)
    with client(context) as farm:
        found = farm.broker_users()
    own, password = found.controller, ""
    if not own:
        password = secrets.token_urlsafe(32)
        own = controller_line(CONTROLLER, password)
    text = "\n".join(["user default off", own, *found.devices]) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(output, text, mode=0o600)
        typer.echo(f"wrote {output}: start Redis with `aclfile {output.absolute()}`")
    if password:
        url = with_credentials(found.url, CONTROLLER, password)
        typer.echo(f"and the controller with BENCHFARM_BROKER_URL={url}", err=True)
