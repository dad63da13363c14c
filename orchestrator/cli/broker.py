"""``benchfarm broker``: the users of the farm's own Redis."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import CliContext, client
from orchestrator.cli.output import require_writable

if TYPE_CHECKING:
    from orchestrator.service.views import BrokerUsersView

app = typer.Typer(help="The broker's users.", no_args_is_help=True)

NO_ADDRESS = "redis://ADDRESS:6379/0"


@app.command("acl")
def acl(
    context: typer.Context,
    output: Path | None = typer.Option(
        None, "--output", "--out", help="Write there, mode 0600; else to the terminal."
    ),
    broker: str = typer.Option(
        "",
        "--broker",
        envvar="BENCHFARM_BROKER_URL",
        help=f"Where Redis will listen, e.g. {NO_ADDRESS}: the address that is printed.",
    ),
) -> None:
    """An ACL file for Redis: its open user off, one for the controller, one for each device.

    Without a running controller, the file for Redis' first start: devices' users are made later.
    """
    from agent.worker.config import write_atomically
    from orchestrator.broker.redis_acl import CONTROLLER, controller_line, with_credentials

    require_writable(output)
    _require_redis(broker)
    found = _known_users(context)
    if not found.url:
        found = _first_users(broker)
    own, password = found.controller, ""
    if not own:
        password = secrets.token_urlsafe(32)
        own = controller_line(CONTROLLER, password)
    text = "\n".join(["user default off", own, *found.devices]) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(output, text, mode=0o600)
        typer.echo(
            f"wrote {output}: start Redis with `aclfile {output.absolute()}`, a file that Redis' "
            "own user must be able to read"
        )
    if password:
        url = with_credentials(found.url, CONTROLLER, password)
        typer.echo(f"and the controller with BENCHFARM_BROKER_URL={url}", err=True)
        if found.url == NO_ADDRESS:
            typer.echo("with Redis' address, as boards reach it, for ADDRESS", err=True)


def _known_users(context: typer.Context) -> BrokerUsersView:
    """The users that the running controller knows; empty where there is none, or no Redis yet."""
    from orchestrator.client import NoController
    from orchestrator.service.views import BrokerUsersView

    options: CliContext = context.obj
    try:
        with client(context) as farm:
            found = farm.broker_users()
        why = "its embedded broker has no users"
    except NoController:
        if options.url:
            raise
        found, why = BrokerUsersView(controller="", devices=[], url=""), "no controller answers"
    if not found.url:
        typer.echo(
            f"for Redis' first start: no device's user is in this file ({why}); the controller "
            "makes them when it runs",
            err=True,
        )
    return found


def _first_users(broker: str) -> BrokerUsersView:
    """The controller's user alone, with the credentials in ``broker`` if there are any."""
    from orchestrator.broker.redis_acl import controller_acl_line, without_credentials
    from orchestrator.service.views import BrokerUsersView

    return BrokerUsersView(
        controller=controller_acl_line(broker),
        devices=[],
        url=without_credentials(broker) or NO_ADDRESS,
    )


def _require_redis(broker: str) -> None:
    """Raises ``UserError`` if that is no address of a Redis."""
    from urllib.parse import urlsplit

    from orchestrator.domain.errors import UserError

    parts = urlsplit(broker)
    if broker and (parts.scheme not in ("redis", "rediss") or not parts.hostname):
        raise UserError(
            f"--broker (BENCHFARM_BROKER_URL) is an address of {parts.scheme or 'nothing'!r}: "
            "expected redis://HOST:PORT/0 or rediss://HOST:PORT/0"
        )
