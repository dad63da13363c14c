"""``benchfarm device rename``: another name for a device, at the controller and on the board."""

from __future__ import annotations

import typer

from orchestrator.cli.context import CliContext
from orchestrator.cli.device.ssh_options import (
    ASK_PASSWORD,
    HOST_KEY,
    address_of,
    login_to,
    print_outcome,
    provisioning_for,
)


def rename(
    context: typer.Context,
    name: str,
    to: str = typer.Argument(metavar="NEW_NAME"),
    controller_url: str = typer.Option("", help="As for `device add`."),
    ask_password: bool = ASK_PASSWORD,
    host_key: str = HOST_KEY,
) -> None:
    """Give a device another name; its tags, its class and what was measured on it stay with it.

    Refused while it has trials to run. A board added over SSH joins again by itself.
    """
    from orchestrator.domain.errors import UserError
    from orchestrator.provisioning import boards
    from playbooks import playbook as playbooks

    options: CliContext = context.obj
    home = options.settings().home
    book = boards.AddressBook(home)
    with options.client() as farm:
        farm.device(name)  # raises NotFound for an unknown name
        if boards.is_local(home, name):
            raise UserError(
                f"{name} is this machine's own agent: it has the name that it got from "
                "`benchfarm up --local-agent --name`"
            )
        over_ssh = book.get(name) is not None
        controller = boards.RemoteController(farm, controller_url)
        if over_ssh:
            controller.require_reachable()
            login = login_to(address_of(home, name), ask_password)
        join = farm.rename(name, to)
        book.rename(name, to)
        typer.echo(f"{name} is {to} now")
        if not over_ssh:
            typer.echo(f"On the board, before {join.expires_at:%Y-%m-%d %H:%M} UTC, run:")
            typer.echo(f"  benchfarm-agent join {join.url} {join.join_token} --name {to}")
            typer.echo("and start its agent anew")
            return
        typer.echo(f"if this is interrupted, `benchfarm device add {to}` completes it")
        outcome = playbooks.add(provisioning_for(home, controller), to, login, host_key=host_key)
        print_outcome(to, outcome, dry_run=False)
