"""``benchfarm device add|retire``: boards over SSH."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import CliContext
from orchestrator.cli.device.ssh_options import (
    ASK_PASSWORD,
    DRY_RUN,
    HOST_KEY,
    IDENTITY,
    SSH,
    address_of,
    login_to,
    print_outcome,
    provisioning_for,
)

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.service.views import JoinView


def add(
    context: typer.Context,
    name: str,
    ssh: str = SSH,
    device_class: str = typer.Option("", "--class", help="Device class; empty: recognised."),
    identity: str = IDENTITY,
    ask_password: bool = ASK_PASSWORD,
    host_key: str = HOST_KEY,
    controller_url: str = typer.Option(
        "", help="Where the board reaches the controller; empty: where it listens."
    ),
    python_archive: Path | None = typer.Option(
        None, help="A standalone Python for a board whose own is too old.", show_default=False
    ),
    dry_run: bool = DRY_RUN,
) -> None:
    """Make a host a board of this farm, over SSH. Run again, it carries on where it ended."""
    from orchestrator.provisioning import boards
    from playbooks import playbook as playbooks

    options: CliContext = context.obj
    home = options.settings().home
    with options.client() as farm:
        address = address_of(home, name, ssh, identity)
        remember = None if dry_run else lambda: boards.AddressBook(home).put(name, address)
        controller = boards.RemoteController(farm, controller_url)
        controller.require_reachable()
        provisioning = provisioning_for(home, controller, remember)
        login = login_to(address, ask_password)
        outcome = playbooks.add(
            provisioning,
            name,
            login,
            device_class=device_class,
            host_key=host_key,
            python_archive=python_archive,
            dry_run=dry_run,
        )
        print_outcome(name, outcome, dry_run)
        if not dry_run:
            _print_capabilities(farm, name)
            if name in controller.joined:
                _print_kept(farm, controller.joined[name])


def _print_kept(farm: Client, joined: JoinView) -> None:
    from orchestrator.provisioning.boards import kept_lines

    now = [f"{r.backend}=={r.version}" for r in farm.device(joined.device).runtimes]
    for line in kept_lines(joined, now):
        typer.echo(line)


def retire(
    context: typer.Context,
    name: str,
    ssh: str = SSH,
    identity: str = IDENTITY,
    ask_password: bool = ASK_PASSWORD,
    host_key: str = HOST_KEY,
    forget: bool = typer.Option(
        False, "--forget", help="Leave the board as it is (it is gone); only refuse its tokens."
    ),
    yes: bool = typer.Option(False, "--yes", help="Do not ask about trials that would not run."),
    dry_run: bool = DRY_RUN,
) -> None:
    """Leave the board as it was found, refuse its tokens from now on, and cancel its trials."""
    from orchestrator.provisioning import boards
    from playbooks import playbook as playbooks

    options: CliContext = context.obj
    home = options.settings().home
    with options.client() as farm:
        if forget or (not ssh and boards.AddressBook(home).get(name) is None):
            _require_reachable(farm, name, forget)
        if not dry_run and not yes:
            _confirm_cancelling(farm, name)
        controller = boards.RemoteController(farm)
        if not forget:
            login = login_to(address_of(home, name, ssh, identity), ask_password)
            provisioning = provisioning_for(home, controller)
            outcome = playbooks.retire(
                provisioning, name, login, host_key=host_key, dry_run=dry_run
            )
            print_outcome(name, outcome, dry_run)
        elif not dry_run:
            controller.retire(name)
        if dry_run:
            return
        boards.AddressBook(home).forget(name)
        typer.echo(f"{name} is retired")
        if controller.cancelled:
            typer.echo(f"{_trials(controller.cancelled)} of its sweeps cancelled")


def _require_reachable(farm: Client, name: str, forget: bool) -> None:
    """Raises ``NotFound``; ``UserError`` for a device that has left the farm already, and for one
    whose address is unknown unless it is to be forgotten."""
    from orchestrator.domain.errors import UserError

    if farm.device(name).connection == "retired":
        raise UserError(
            f"{name} is retired already: nothing is left to do here; `benchfarm device add {name}` "
            "brings it back"
        )
    if not forget:
        raise UserError(
            f"how is {name} reached? give --ssh USER@HOST, or --forget to leave the board as it is"
        )


def _confirm_cancelling(farm: Client, name: str) -> None:
    """Raises ``UserError`` if the answer is no, or there is no terminal to ask on."""
    from orchestrator.domain.errors import UserError

    found = next((d for d in farm.devices() if d.name == name), None)
    left = found.waiting + (found.running is not None) if found else 0
    if not left:
        return
    question = f"{name} has {_trials(left)} left to run, which would be cancelled"
    if not sys.stdin.isatty():
        raise UserError(f"{question}: say --yes, or wait for `benchfarm device drain`")
    if not typer.confirm(f"{question}. Retire it?"):
        raise UserError(f"{name} is left as it is")


def _trials(count: int) -> str:
    return f"{count} trial{'s' if count != 1 else ''}"


def _print_capabilities(farm: Client, name: str) -> None:
    from orchestrator.cli.device.health import health
    from orchestrator.provisioning.boards import answering
    from orchestrator.store.device_class_files import device_class

    found = farm.device(name)
    typer.echo(f"{name}'s health: {health(found)}")
    typer.echo(f"{name} ({found.device_class}) is {found.connection} and can now run:")
    for runtime in found.runtimes:
        if not runtime.missing:
            targets = "; ".join(f"{t}: {', '.join(p)}" for t, p in runtime.targets.items())
            typer.echo(f"  {runtime.backend} {runtime.version} on {targets}")
    known = device_class(found.device_class)
    for line in known.lacking(answering(found)) if known else ():
        typer.echo(f"  expected of a {found.device_class}, and not so: {line}")
