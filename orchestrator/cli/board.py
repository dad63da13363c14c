"""``benchfarm device add|retire``: boards over SSH."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import State

if TYPE_CHECKING:
    from orchestrator.boards import Address, RemoteController
    from orchestrator.client import Client
    from playbooks.boards import Workshop
    from playbooks.connection import Login
    from playbooks.run import Event, Outcome

SSH = typer.Option("", "--ssh", help="[USER@]HOST[:PORT], or an alias of ~/.ssh/config.")
IDENTITY = typer.Option(
    "", "--identity", help="Private key file; empty: ssh-agent and the usual ones."
)
ASK_PASSWORD = typer.Option(
    False, "--ask-password", help="Ask for the password of the login, which sudo is given too."
)
HOST_KEY = typer.Option(
    "", "--host-key", help="SHA256:… fingerprint to pin; also instead of another one pinned before."
)
DRY_RUN = typer.Option(False, "--dry-run", help="Say what would change, and change nothing.")


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
    from orchestrator import boards
    from playbooks import boards as playbooks

    state: State = context.obj
    home = state.settings().home
    with state.client() as farm:
        address = _address(home, name, ssh, identity)
        remember = None if dry_run else lambda: boards.Addresses(home).put(name, address)
        controller = boards.RemoteController(farm, controller_url)
        controller.require_reachable()
        work = _workshop(home, controller, remember)
        login = _login(address, ask_password)
        outcome = playbooks.add(
            work,
            name,
            login,
            device_class=device_class,
            host_key=host_key,
            python_archive=python_archive,
            dry_run=dry_run,
        )
        _say_outcome(name, outcome, dry_run)
        if not dry_run:
            _say_abilities(farm, name)


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
    dry_run: bool = DRY_RUN,
) -> None:
    """Leave the board as it was found, and refuse its tokens from now on."""
    from orchestrator import boards
    from playbooks import boards as playbooks

    state: State = context.obj
    home = state.settings().home
    with state.client() as farm:
        if not forget:
            if not ssh and boards.Addresses(home).get(name) is None:
                farm.device(name)
            login = _login(_address(home, name, ssh, identity), ask_password)
            work = _workshop(home, boards.RemoteController(farm))
            outcome = playbooks.retire(work, name, login, host_key=host_key, dry_run=dry_run)
            _say_outcome(name, outcome, dry_run)
        elif not dry_run:
            farm.retire(name)
        if not dry_run:
            boards.Addresses(home).forget(name)
            typer.echo(f"{name} is retired")


def _address(home: Path, name: str, ssh: str, identity: str) -> Address:
    from orchestrator.boards import Address, Addresses
    from orchestrator.domain.errors import UserError

    kept = Addresses(home).get(name)
    if ssh:
        return Address(ssh, str(Path(identity).expanduser().resolve()) if identity else "")
    if kept is None:
        raise UserError(f"how is {name} reached? give --ssh USER@HOST")
    return Address(kept.ssh, identity or kept.identity)


def _workshop(
    home: Path, controller: RemoteController, claimed: Callable[[], None] | None = None
) -> Workshop:
    """``claimed`` is called once the host is known to be this board, and no other's."""
    from orchestrator.boards import workshop

    def tell(event: Event) -> None:
        if claimed is not None and event.step == "board" and event.status:
            claimed()
        _tell(event)

    return workshop(home, controller, tell, typer.echo)


def _login(address: Address, ask_password: bool) -> Login:
    from playbooks.connection import Login

    password = typer.prompt(f"password of {address.ssh}", hide_input=True) if ask_password else ""
    return Login(address.ssh, address.identity, password)


def _tell(event: Event) -> None:
    if not event.status:
        typer.echo(f"  {event.step:<22} … {event.text}")
        return
    why = f" ({event.text})" if event.status == "would change" else ""
    typer.echo(f"  {event.step:<22} {event.status}{why} {event.seconds:.1f} s")


def _say_outcome(name: str, outcome: Outcome, dry_run: bool) -> None:
    would = "would change" if dry_run else "changed"
    typer.echo(f"{name}: {outcome.steps} steps, {would}={outcome.changed}")


def _say_abilities(farm: Client, name: str) -> None:
    from orchestrator.cli.health import health

    found = farm.device(name)
    typer.echo(f"{name}'s health: {health(found)}")
    typer.echo(f"{name} ({found.device_class}) is {found.connection} and can now run:")
    for runtime in found.runtimes:
        if not runtime.missing:
            targets = "; ".join(f"{t}: {', '.join(p)}" for t, p in runtime.targets.items())
            typer.echo(f"  {runtime.backend} {runtime.version} on {targets}")
