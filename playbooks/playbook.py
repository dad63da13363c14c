"""The whole of it: register a board, or retire one."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.contract import device_name
from agent.contract.device import DeviceFacts
from playbooks import steps
from playbooks.board_probe import examine
from playbooks.class_steps import chosen, class_steps
from playbooks.classes import BoardClass
from playbooks.connection import Host, Login, connected
from playbooks.controller_reachability import require_controller
from playbooks.environments import runtime_name, runtime_step
from playbooks.errors import BadOrder
from playbooks.health import health_step
from playbooks.host_keys import Pins
from playbooks.retire import retire_steps
from playbooks.step_runner import RunOutcome, Step, Tell, play
from playbooks.target import BoardTarget, Note, PlaybookController

KNOWN_HOSTS = "known_hosts"


@dataclass(frozen=True)
class ProvisioningContext:
    """Where this machine keeps what boards need (``home``), who the controller is, which classes
    there are and how one is recognised, and who is told what happens."""

    home: Path
    controller: PlaybookController
    classes: Mapping[str, BoardClass]
    recognise: Callable[[DeviceFacts], str]
    tell: Tell
    note: Note


def add(
    workshop: ProvisioningContext,
    device: str,
    login: Login,
    *,
    device_class: str = "",
    runtimes: Sequence[str] = (),
    host_key: str = "",
    python_archive: Path | None = None,
    dry_run: bool = False,
) -> RunOutcome:
    """Make the host of ``login`` the board ``device``. What is right already is left alone.
    ``runtimes``: beside those of its class.

    Raises:
        PlaybookError: a step could not be done; the same call carries on there.
    """
    if python_archive is not None and not python_archive.is_file():
        raise BadOrder(f"{python_archive}: there is no such archive")
    board_class = chosen(workshop.classes, device_class) if device_class else None
    with at_work(workshop, device), connected(login, pins(workshop, host_key)) as host:
        site = site_of(workshop, host, device, device_class)
        site.python_archive = python_archive
        steps.require(site)
        require_controller(site)
        if board_class is None:
            board_class = _class_of(site, workshop)
        return play(registration(board_class, runtimes), site, workshop.tell, dry_run=dry_run)


def _class_of(site: BoardTarget, workshop: ProvisioningContext) -> BoardClass:
    """What the controller calls the device already, else what the board looks like."""
    there = site.controller.known(site.device)
    if there.joined and there.device_class in workshop.classes:
        site.device_class = there.device_class
    else:
        site.device_class = workshop.recognise(site.machine.facts)
        workshop.note(f"{site.device} is recognised as {site.device_class}")
    return chosen(workshop.classes, site.device_class)


def registration(board_class: BoardClass, beside: Sequence[str] = ()) -> list[Step]:
    """The steps of a class, with the runtimes ``beside`` its own."""
    runtimes = {runtime_name(text): text for text in (*beside, *board_class.runtimes)}
    names = tuple(runtimes)
    return [
        steps.mark_step(),
        *class_steps(board_class),
        steps.user_step(board_class.groups),
        steps.interpreter_step(),
        steps.agent_step(),
        steps.join_step(),
        steps.class_step(),
        steps.broker_step(),
        *(runtime_step(text) for text in runtimes.values()),
        steps.unit_step(),
        steps.start_step(),
        steps.beat_step(names),
        steps.clean_step(),
        health_step(),
    ]


def retire(
    workshop: ProvisioningContext,
    device: str,
    login: Login,
    *,
    host_key: str = "",
    dry_run: bool = False,
) -> RunOutcome:
    """Leave the host as it was found, and have the controller forget its tokens.

    Raises:
        PlaybookError: a step could not be done; the same call carries on there.
    """
    with at_work(workshop, device), connected(login, pins(workshop, host_key)) as host:
        site = site_of(workshop, host, device, "")
        return play(retire_steps(), site, workshop.tell, dry_run=dry_run)


def pins(workshop: ProvisioningContext, host_key: str = "") -> Pins:
    """The host keys that this controller knows."""
    return Pins(workshop.home / KNOWN_HOSTS, workshop.note, host_key)


def site_of(
    workshop: ProvisioningContext, host: Host, device: str, device_class: str
) -> BoardTarget:
    """What the steps work on. Raises ``Unfit``."""
    return BoardTarget(
        host=host,
        device=device,
        device_class=device_class,
        controller=workshop.controller,
        cache=workshop.home / "wheels",
        machine=examine(host),
    )


@contextlib.contextmanager
def at_work(workshop: ProvisioningContext, device: str) -> Iterator[None]:
    """Two at once on one name would undo each other. Raises ``BadOrder``."""
    why = device_name.mistake(device)
    if why:
        raise BadOrder(why)
    workshop.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (workshop.home / f"{device}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadOrder(f"another `benchfarm` works on {device!r} just now") from None
        yield
