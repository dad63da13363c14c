"""What the commands share that go to a board over SSH: how it is reached, and what is told."""

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
    """Where a board is reached: as said, else as last time. Raises ``UserError``."""
    from orchestrator.domain.errors import UserError
    from orchestrator.provisioning.boards import AddressBook, BoardAddress

    kept = AddressBook(home).get(name)
    if ssh:
        return BoardAddress(ssh, str(Path(identity).expanduser().resolve()) if identity else "")
    if kept is None:
        raise UserError(f"how is {name} reached? give --ssh USER@HOST")
    return BoardAddress(kept.ssh, identity or kept.identity)


def provisioning_for(
    home: Path, controller: RemoteController, claimed: Callable[[], None] | None = None
) -> ProvisioningContext:
    """``claimed`` is called once the host is known to be this board, and no other's."""
    from orchestrator.provisioning.boards import provisioning_context

    def told(event: StepEvent) -> None:
        if claimed is not None and event.step == "board" and event.status:
            claimed()
        tell(event)

    return provisioning_context(home, controller, told, typer.echo)


def login_to(address: BoardAddress, ask_password: bool) -> Login:
    """The password is asked for where the user said so."""
    from playbooks.connection import Login

    password = typer.prompt(f"password of {address.ssh}", hide_input=True) if ask_password else ""
    return Login(address.ssh, address.identity, password)


def tell(event: StepEvent) -> None:
    """One line for a step that begins, one for how it ended."""
    if not event.status:
        typer.echo(f"  {event.step:<22} … {event.text}")
        return
    why = f" ({event.text})" if event.status == "would change" else ""
    typer.echo(f"  {event.step:<22} {event.status}{why} {event.seconds:.1f} s")


def say_outcome(name: str, outcome: RunOutcome, dry_run: bool) -> None:
    """How many steps there were, and how many changed something."""
    would = "would change" if dry_run else "changed"
    typer.echo(f"{name}: {outcome.steps} steps, {would}={outcome.changed}")
