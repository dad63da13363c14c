"""Entry points: register a board, or retire one."""

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
from playbooks.errors import InvalidRequest
from playbooks.health import health_step
from playbooks.host_keys import PinnedHostKeys
from playbooks.retire import retire_steps
from playbooks.step_runner import EventListener, RunOutcome, Step, run_steps
from playbooks.target import BoardTarget, MessageListener, PlaybookController
from playbooks.waiting import Waiting, unseen

KNOWN_HOSTS = "known_hosts"


@dataclass(frozen=True)
class ProvisioningContext:
    """What every playbook needs. ``home`` holds host keys, locks and wheels on this machine;
    ``recognise`` names the class of a board; ``on_event``, ``on_message`` and ``waiting`` report
    progress."""

    home: Path
    controller: PlaybookController
    classes: Mapping[str, BoardClass]
    recognise: Callable[[DeviceFacts], str]
    on_event: EventListener
    on_message: MessageListener
    waiting: Waiting = unseen


def add(
    context: ProvisioningContext,
    device: str,
    login: Login,
    *,
    device_class: str = "",
    runtimes: Sequence[str] = (),
    host_key: str = "",
    python_archive: Path | None = None,
    dry_run: bool = False,
) -> RunOutcome:
    """Register the host of ``login`` as the board ``device``. Steps already done are skipped.
    ``runtimes`` are installed in addition to those of its class.

    Raises:
        PlaybookError: a step failed; calling again resumes there.
    """
    if python_archive is not None and not python_archive.is_file():
        raise InvalidRequest(f"{python_archive}: there is no such archive")
    board_class = chosen(context.classes, device_class) if device_class else None
    with (
        exclusive_access(context, device),
        connected(login, pinned_host_keys(context, host_key), context.waiting) as host,
    ):
        target = board_target(context, host, device, device_class)
        target.python_archive = python_archive
        steps.require(target)
        require_controller(target)
        if board_class is None:
            board_class = _class_of(target, context)
        return run_steps(
            registration(board_class, runtimes), target, context.on_event, dry_run=dry_run
        )


def _class_of(target: BoardTarget, context: ProvisioningContext) -> BoardClass:
    """The class that the controller has for the device, else the one recognised from the board."""
    known = target.controller.known(target.device)
    if known.joined and known.device_class in context.classes:
        target.device_class = known.device_class
    else:
        target.device_class = context.recognise(target.machine.facts)
        context.on_message(f"{target.device} is recognised as {target.device_class}")
    return chosen(context.classes, target.device_class)


def registration(board_class: BoardClass, extra_runtimes: Sequence[str] = ()) -> list[Step]:
    """The steps that register a board of a class, with ``extra_runtimes`` besides its own."""
    runtimes = {runtime_name(text): text for text in (*extra_runtimes, *board_class.runtimes)}
    names = tuple(runtimes)
    return [
        steps.ownership_step(),
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
        steps.heartbeat_step(names),
        steps.clean_step(),
        health_step(),
    ]


def retire(
    context: ProvisioningContext,
    device: str,
    login: Login,
    *,
    host_key: str = "",
    dry_run: bool = False,
) -> RunOutcome:
    """Remove everything from the host and revoke the device's tokens at the controller.

    Raises:
        PlaybookError: a step failed; calling again resumes there.
    """
    with (
        exclusive_access(context, device),
        connected(login, pinned_host_keys(context, host_key), context.waiting) as host,
    ):
        target = board_target(context, host, device, "")
        return run_steps(retire_steps(), target, context.on_event, dry_run=dry_run)


def pinned_host_keys(context: ProvisioningContext, host_key: str = "") -> PinnedHostKeys:
    """The host keys pinned on this machine."""
    return PinnedHostKeys(context.home / KNOWN_HOSTS, context.on_message, host_key)


def board_target(
    context: ProvisioningContext, host: Host, device: str, device_class: str
) -> BoardTarget:
    """The board that the steps work on, examined. Raises ``Unfit``."""
    return BoardTarget(
        host=host,
        device=device,
        device_class=device_class,
        controller=context.controller,
        cache=context.home / "wheels",
        machine=examine(host),
        waiting=context.waiting,
    )


@contextlib.contextmanager
def exclusive_access(context: ProvisioningContext, device: str) -> Iterator[None]:
    """Lock a device's name: two playbooks on one board would undo each other's steps.

    Raises:
        InvalidRequest: a bad name, or another process holds the lock.
    """
    why = device_name.mistake(device)
    if why:
        raise InvalidRequest(why)
    context.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (context.home / f"{device}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidRequest(f"another `benchfarm` works on {device!r} just now") from None
        yield
