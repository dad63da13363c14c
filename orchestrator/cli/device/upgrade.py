"""``benchfarm device upgrade``: bring agents and runtimes to this controller's version."""

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
    print_outcome,
    provisioning_for,
)
from orchestrator.cli.output import SELECTOR_OPTION

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.provisioning.boards import RemoteController
    from orchestrator.service.views import DeviceView


@dataclass(frozen=True)
class _UpgradeOptions:
    """The options that hold for every board."""

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
    selector: list[str] = SELECTOR_OPTION,
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

    cli: CliContext = context.obj
    home = cli.settings().home
    with cli.client() as farm:
        selected = _selected(farm, names or [], selector, every)
        if host_key and len(selected) != 1:
            raise UserError("--host-key is one board's: name that board alone")
        controller = boards.RemoteController(farm, controller_url)
        options = _UpgradeOptions(home, farm, controller, now, dry_run, ask_password, host_key)
        failed: list[str] = []
        for device in selected:
            try:
                if not _upgrade(options, device):
                    failed.append(device.name)
            except (FarmError, PlaybookError) as error:
                if len(selected) == 1:
                    raise
                typer.echo(f"error: {device.name}: {error}", err=True)
                failed.append(device.name)
    if failed:
        typer.echo(f"not upgraded: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


def _selected(farm: Client, names: list[str], selector: list[str], every: bool) -> list[DeviceView]:
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


def _upgrade(options: _UpgradeOptions, device: DeviceView) -> bool:
    """Whether the board now has this version, or would have it."""
    from orchestrator.provisioning import boards
    from playbooks.upgrade import upgrade as upgrade_board

    name = device.name
    if boards.is_local(options.home, name):
        typer.echo(f"{name} is this machine's own agent: it is upgraded with the controller")
        return True
    if boards.AddressBook(options.home).get(name) is None:
        return _upgrade_by_hand(device)
    options.controller.require_reachable()
    login = login_to(address_of(options.home, name), options.ask_password)
    done = upgrade_board(
        provisioning_for(options.home, options.controller),
        name,
        login,
        device.device_class,
        lambda: drained(options.farm, name, now=options.now),
        host_key=options.host_key,
        dry_run=options.dry_run,
    )
    print_outcome(name, done.outcome, options.dry_run)
    if not done.outcome.changed:
        typer.echo(f"{name}: nothing to upgrade, it runs {done.after}")
    elif not options.dry_run:
        typer.echo(f"{name}: upgraded from {done.before or 'no agent'} to {done.after}")
    return True


def _upgrade_by_hand(device: DeviceView) -> bool:
    """Print what to run on a board that joined by a token, whose SSH address is unknown."""
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
