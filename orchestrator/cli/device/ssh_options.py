"""Options and output shared by the commands that use SSH."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from orchestrator.provisioning.boards import BoardAddress, RemoteController
    from playbooks.connection import Login
    from playbooks.playbook import ProvisioningContext
    from playbooks.step_runner import RunOutcome, StepEvent

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


def address_of(home: Path, name: str, ssh: str = "", identity: str = "") -> BoardAddress:
    """The address given, else the one used last. Raises ``UserError`` if there is none."""
    from orchestrator.domain.errors import UserError
    from orchestrator.provisioning.boards import AddressBook, BoardAddress

    saved = AddressBook(home).get(name)
    if ssh:
        return BoardAddress(ssh, str(Path(identity).expanduser().resolve()) if identity else "")
    if saved is None:
        raise UserError(f"how is {name} reached? give --ssh USER@HOST")
    return BoardAddress(saved.ssh, identity or saved.identity)


def provisioning_for(
    home: Path, controller: RemoteController, claimed: Callable[[], None] | None = None
) -> ProvisioningContext:
    """The playbooks' context; ``claimed`` is called once the host is known to be this board."""
    from orchestrator.cli.waiting import waiting
    from orchestrator.provisioning.boards import provisioning_context

    def on_event(event: StepEvent) -> None:
        if claimed is not None and event.step == "board" and event.status:
            claimed()
        print_event(event)

    return provisioning_context(home, controller, on_event, typer.echo, waiting)


def login_to(address: BoardAddress, ask_password: bool) -> Login:
    """The SSH login; asks for the password on request."""
    from playbooks.connection import Login

    password = typer.prompt(f"password of {address.ssh}", hide_input=True) if ask_password else ""
    return Login(address.ssh, address.identity, password)


def print_event(event: StepEvent) -> None:
    """Print one line when a step starts to change something, one when it ends."""
    if not event.status:
        typer.echo(f"  {event.step:<22} … {event.text}")
        return
    why = f" ({event.text})" if event.status == "would change" else ""
    typer.echo(f"  {event.step:<22} {event.status}{why} {event.seconds:.1f} s")


def print_outcome(name: str, outcome: RunOutcome, dry_run: bool) -> None:
    """Print the number of steps, and of those that changed something."""
    would = "would change" if dry_run else "changed"
    typer.echo(f"{name}: {outcome.steps} steps, {would}={outcome.changed}")
