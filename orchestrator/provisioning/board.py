"""One board of a fleet file: apply its entry, find differences, or retire it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent.contract.device import DeviceFacts
from orchestrator.client import Client
from orchestrator.provisioning import boards
from orchestrator.provisioning.boards import AddressBook, BoardAddress, RemoteController
from orchestrator.provisioning.diff import Difference, board_differences, controller_differences
from orchestrator.provisioning.fleet_file import WantedBoard
from orchestrator.provisioning.parallel import Notice
from playbooks import playbook as playbooks
from playbooks.connection import Login
from playbooks.errors import PlaybookError
from playbooks.step_runner import RunOutcome, Status, StepEvent
from playbooks.target import HealthCheckOutcome, KnownDevice

CONTROLLER = "controller"
"""The step after those on the board: class, tags and ``enabled`` at the controller."""


@dataclass(frozen=True)
class Awaited(Notice):
    """What a board's step waits for, and until when; empty: for nothing any more."""

    what: str


Reporter = Callable[[StepEvent | str | Awaited], None]
"""Receives a step's event, a line of text, or what is waited for."""


@dataclass(frozen=True)
class BoardOutcome:
    """``changed``: number of the ``steps`` that changed something (or would). ``state``: the
    device's connection afterwards."""

    device_class: str
    steps: int
    changed: int
    state: str = ""


@dataclass(frozen=True)
class FarmAccess:
    """What every board needs: this machine's home folder, the controller, an SSH password."""

    home: Path
    client: Client
    controller: RemoteController
    password: str = ""

    def login(self, wanted: WantedBoard) -> Login:
        return Login(wanted.ssh, wanted.identity, self.password)


def apply(
    farm: FarmAccess, wanted: WantedBoard, report: Reporter, *, dry_run: bool = False
) -> BoardOutcome:
    """Bring one board to the state that the file describes.

    Raises:
        PlaybookError, FarmError: a step failed; earlier steps stay done.
    """
    addresses, board = AddressBook(farm.home), _BoardController(farm, wanted, report)

    def on_event(event: StepEvent) -> None:
        # the host is now known to be this board
        if event.step == "board" and event.status and not dry_run:
            addresses.put(wanted.name, BoardAddress(wanted.ssh, wanted.identity))
        report(event)

    outcome = _add_board(board, on_event, report, dry_run=dry_run)
    differences = list(
        controller_differences(wanted, board.device_class, farm.client.find_device(wanted.name))
    )
    why = "; ".join(map(str, differences))
    if differences and not dry_run:
        board.apply_settings(differences)
    would: Status = "would change" if dry_run else "changed"
    report(StepEvent(CONTROLLER, would if differences else "ok", why))
    now = farm.client.find_device(wanted.name)
    return BoardOutcome(
        device_class=board.device_class,
        steps=outcome.steps + 1,
        changed=outcome.changed + bool(differences),
        state="" if dry_run or now is None else now.connection,
    )


def find_differences(farm: FarmAccess, wanted: WantedBoard, report: Reporter) -> list[Difference]:
    """Differences between a board and the file. A board that cannot be examined is one, too."""
    events: list[StepEvent] = []
    board = _BoardController(farm, wanted, report)

    def on_event(event: StepEvent) -> None:
        events.append(event)
        report(event)

    unreachable = []
    try:
        _add_board(board, on_event, report, dry_run=True)
    except PlaybookError as error:
        unreachable = [
            Difference(device=wanted.name, what="reached", found=f"no: {error}", wanted="yes")
        ]
    view = farm.client.find_device(wanted.name)
    at_controller = list(controller_differences(wanted, board.device_class, view))
    keys = {d.what for d in at_controller}
    if "registered" in keys:  # every step differs then
        return [*unreachable, *at_controller]
    return [
        *unreachable,
        *at_controller,
        *(d for d in board_differences(wanted.name, events) if d.what not in keys),
    ]


def retire(farm: FarmAccess, device: str, report: Reporter) -> BoardOutcome:
    """Remove benchfarm from a board; one without a known address is only retired at the
    controller."""
    address = AddressBook(farm.home).get(device)
    if address is None:
        farm.client.retire(device)
        report("its tokens are refused; no address is known, so the board itself is left as it is")
        return BoardOutcome("", 1, 1, "retired")
    login = Login(address.ssh, address.identity, farm.password)
    work = boards.provisioning_context(
        farm.home, farm.controller, report, report, partial(_waiting, report)
    )
    outcome = playbooks.retire(work, device, login)
    AddressBook(farm.home).forget(device)
    return BoardOutcome("", outcome.steps, outcome.changed, "retired")


@contextlib.contextmanager
def _waiting(report: Reporter, what: str) -> Iterator[None]:
    report(Awaited(what))
    try:
        yield
    finally:
        report(Awaited(""))


def _add_board(
    board: _BoardController,
    on_event: Callable[[StepEvent], None],
    report: Reporter,
    *,
    dry_run: bool,
) -> RunOutcome:
    farm, wanted = board.farm, board.wanted
    base = boards.provisioning_context(
        farm.home, farm.controller, on_event, report, partial(_waiting, report)
    )

    def recognise(facts: DeviceFacts) -> str:
        board.device_class = base.recognise(facts)
        return board.device_class

    work = dataclasses.replace(base, controller=board, recognise=recognise)
    return playbooks.add(
        work,
        wanted.name,
        farm.login(wanted),
        device_class=wanted.device_class,
        runtimes=wanted.runtimes,
        host_key=wanted.host_key,
        python_archive=wanted.python_archive,
        dry_run=dry_run,
    )


class _BoardController:
    """The controller for one board's playbook. When the board gets its join token, the settings of
    the file are applied, so that they hold before it can be given work."""

    def __init__(self, farm: FarmAccess, wanted: WantedBoard, report: Reporter) -> None:
        self.farm = farm
        self.wanted = wanted
        self.report = report
        self.device_class = wanted.device_class

    @property
    def url(self) -> str:
        return self.farm.controller.url

    @property
    def authority(self) -> str:
        return self.farm.controller.authority

    def known(self, device: str) -> KnownDevice:
        found = self.farm.controller.known(device)
        self.device_class = self.device_class or found.device_class
        return found

    def join_token(self, device: str, device_class: str) -> str:
        token = self.farm.controller.join_token(device, device_class)
        for line in boards.kept_lines(self.farm.controller.joined[device], ()):
            self.report(line)
        found = self.farm.client.find_device(device)
        if found is not None and found.facts is None:
            joined = found.model_copy(update={"facts": {}})
            self.apply_settings(
                list(controller_differences(self.wanted, self.device_class, joined))
            )
        return token

    def classify(self, device: str, device_class: str) -> None:
        self.farm.controller.classify(device, device_class)

    def check_health(self, device: str, limit_s: float) -> HealthCheckOutcome | None:
        return self.farm.controller.check_health(device, limit_s)

    def retire(self, device: str) -> None:
        self.farm.controller.retire(device)

    def apply_settings(self, differences: list[Difference]) -> None:
        """Set what differs at the controller to the file's values."""
        client, name = self.farm.client, self.wanted.name
        changed = {d.what for d in differences}
        if "class" in changed:
            client.classify(name, self.device_class)
        kept = self.wanted.tags or {}
        tags = {d.what.removeprefix("tags."): "" for d in differences if d.what.startswith("tags.")}
        if tags:
            client.tag(name, {key: kept.get(key, "") for key in tags})
        if "enabled" in changed:
            client.enable(name, bool(self.wanted.enabled))
