"""``benchfarm device upgrade``: agents and runtimes as this controller's version installs them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import CliContext
from orchestrator.cli.device.drain import drained
from orchestrator.cli.device.ssh_options import (
    ASK_PASSWORD,
    DRY_RUN,
    HOST_KEY,
    address_of,
    login_to,
    provisioning_for,
    say_outcome,
)
from orchestrator.cli.output import LABELS

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.provisioning.boards import RemoteController
    from orchestrator.service.views import DeviceView


@dataclass(frozen=True)
class _Order:
    """What the command's options say for every board."""

    home: Path
    farm: Client
    controller: RemoteController
    now: bool
    dry_run: bool
    ask_password: bool
    host_key: str


def upgrade(
    context: typer.Context,
    names: list[str] = typer.Argument(None, metavar="[NAME]...", show_default=False),
    selector: list[str] = LABELS,
    every: bool = typer.Option(False, "--all", help="Every board of the farm."),
    now: bool = typer.Option(
        False, "--now", help="Do not wait for a running trial; it runs again afterwards."
    ),
    controller_url: str = typer.Option("", help="As for `device add`."),
    ask_password: bool = ASK_PASSWORD,
    host_key: str = HOST_KEY,
    dry_run: bool = DRY_RUN,
) -> None:
    """Bring boards to this controller's version; each is given no work meanwhile."""
    from orchestrator.domain.errors import FarmError, UserError
    from orchestrator.provisioning import boards
    from playbooks.errors import PlaybookError

    state: CliContext = context.obj
    home = state.settings().home
    with state.client() as farm:
        chosen = _chosen(farm, names or [], selector, every)
        if host_key and len(chosen) != 1:
            raise UserError("--host-key is one board's: name that board alone")
        controller = boards.RemoteController(farm, controller_url)
        order = _Order(home, farm, controller, now, dry_run, ask_password, host_key)
        failed: list[str] = []
        for device in chosen:
            try:
                if not _upgrade(order, device):
                    failed.append(device.name)
            except (FarmError, PlaybookError) as error:
                if len(chosen) == 1:
                    raise
                typer.echo(f"error: {device.name}: {error}", err=True)
                failed.append(device.name)
    if failed:
        typer.echo(f"not upgraded: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


def _chosen(farm: Client, names: list[str], selector: list[str], every: bool) -> list[DeviceView]:
    from orchestrator.domain.errors import UserError
    from orchestrator.domain.selectors import matches, parse

    if bool(names) + bool(selector) + every != 1:
        raise UserError("which boards? name them, or say -l KEY=VALUE, or --all")
    if names:
        found = [farm.device(name) for name in dict.fromkeys(names)]
        for device in found:
            if device.connection == "retired":
                raise UserError(f"{device.name} is retired: there is nothing to upgrade")
        return found
    wanted = parse(selector)
    listed = [d for d in farm.devices() if matches(wanted, d.labels())]
    found = [d for d in listed if d.connection != "retired"]
    if not found:
        raise UserError(f"no device matches {', '.join(selector) or '--all'}")
    return found


def _upgrade(order: _Order, device: DeviceView) -> bool:
    """Whether it now is of this version, or would be."""
    from orchestrator.provisioning import boards
    from playbooks.upgrade import upgrade as play

    name = device.name
    if boards.is_local(order.home, name):
        typer.echo(f"{name} is this machine's own agent: it is upgraded with the controller")
        return True
    if boards.AddressBook(order.home).get(name) is None:
        return _by_hand(device)
    order.controller.require_reachable()
    login = login_to(address_of(order.home, name), order.ask_password)
    done = play(
        provisioning_for(order.home, order.controller),
        name,
        login,
        device.device_class,
        lambda: drained(order.farm, name, now=order.now),
        host_key=order.host_key,
        dry_run=order.dry_run,
    )
    say_outcome(name, done.outcome, order.dry_run)
    if not done.outcome.changed:
        typer.echo(f"{name}: nothing to upgrade, it runs {done.after}")
    elif not order.dry_run:
        typer.echo(f"{name}: upgraded from {done.before or 'no agent'} to {done.after}")
    return True


def _by_hand(device: DeviceView) -> bool:
    """A board that joined by a token: nobody here knows a way in."""
    import agent

    if device.agent_version == agent.__version__:
        typer.echo(
            f"{device.name}: nothing to upgrade, its agent is of version {agent.__version__}"
        )
        return True
    typer.echo(
        f"{device.name} joined by a token, no way in is known; it runs "
        f"{device.agent_version or 'an unknown version'}. On the board, run:\n"
        f"  pip install --upgrade 'benchfarm=={agent.__version__}'\n"
        "and start its agent anew (`benchfarm-agent run`). Or have it done from here: "
        f"benchfarm device add {device.name} --ssh USER@HOST"
    )
    return False
