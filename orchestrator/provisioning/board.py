"""One board of the fleet: made as the file says, looked at, or retired."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.contract.device import DeviceFacts
from orchestrator.client import Client
from orchestrator.provisioning import boards
from orchestrator.provisioning.boards import AddressBook, BoardAddress, RemoteController
from orchestrator.provisioning.diff import Difference, at_controller, on_board
from orchestrator.provisioning.fleet_file import WantedBoard
from playbooks import playbook as playbooks
from playbooks.connection import Login
from playbooks.errors import PlaybookError
from playbooks.step_runner import RunOutcome, Status, StepEvent
from playbooks.target import HealthCheckOutcome, KnownDevice

CONTROLLER = "controller"
"""The step after the board's own: class, tags and the wish, as the file says."""

Say = Callable[[StepEvent | str], None]
"""Takes a step's event, or a line for people."""


@dataclass(frozen=True)
class BoardOutcome:
    """How a board ended. ``changed``: how many of its ``steps`` changed something (or would)."""

    device_class: str
    steps: int
    changed: int
    state: str = ""


@dataclass(frozen=True)
class FarmAccess:
    """What every board needs: where this machine keeps things, the controller, a password."""

    home: Path
    client: Client
    controller: RemoteController
    password: str = ""

    def login(self, wanted: WantedBoard) -> Login:
        return Login(wanted.ssh, wanted.identity, self.password)


def make(farm: FarmAccess, wanted: WantedBoard, say: Say, *, dry_run: bool = False) -> BoardOutcome:
    """Bring one board to what the file says.

    Raises:
        PlaybookError, FarmError: it could not be done; what was done stays.
    """
    addresses, board = AddressBook(farm.home), _Board(farm, wanted)

    def tell(event: StepEvent) -> None:
        # from then on the host is known to be this board, and no other's
        if event.step == "board" and event.status and not dry_run:
            addresses.put(wanted.name, BoardAddress(wanted.ssh, wanted.identity))
        say(event)

    outcome = _play(board, tell, say, dry_run=dry_run)
    differ = list(at_controller(wanted, board.device_class, farm.client.find_device(wanted.name)))
    why = "; ".join(map(str, differ))
    if differ and not dry_run:
        board.settle(differ)
    would: Status = "would change" if dry_run else "changed"
    say(StepEvent(CONTROLLER, would if differ else "ok", why))
    now = farm.client.find_device(wanted.name)
    return BoardOutcome(
        device_class=board.device_class,
        steps=outcome.steps + 1,
        changed=outcome.changed + bool(differ),
        state="" if dry_run or now is None else now.connection,
    )


def look(farm: FarmAccess, wanted: WantedBoard, say: Say) -> list[Difference]:
    """What differs; a board that cannot be looked at is a difference, too."""
    events: list[StepEvent] = []
    board = _Board(farm, wanted)

    def tell(event: StepEvent) -> None:
        events.append(event)
        say(event)

    unseen = []
    try:
        _play(board, tell, say, dry_run=True)
    except PlaybookError as error:
        unseen = [
            Difference(device=wanted.name, what="reached", found=f"no: {error}", wanted="yes")
        ]
    view = farm.client.find_device(wanted.name)
    kept = list(at_controller(wanted, board.device_class, view))
    said = {d.what for d in kept}
    if "registered" in said:  # every step would only say so again
        return [*unseen, *kept]
    return [*unseen, *kept, *(d for d in on_board(wanted.name, events) if d.what not in said)]


def retire(farm: FarmAccess, device: str, say: Say) -> BoardOutcome:
    """Leave a board as it was found; one that nobody knows an address of is only forgotten."""
    kept = AddressBook(farm.home).get(device)
    if kept is None:
        farm.client.retire(device)
        say("its tokens are refused; no address is known, so the board itself is left as it is")
        return BoardOutcome("", 1, 1, "retired")
    login = Login(kept.ssh, kept.identity, farm.password)
    work = boards.provisioning_context(farm.home, farm.controller, say, say)
    outcome = playbooks.retire(work, device, login)
    AddressBook(farm.home).forget(device)
    return BoardOutcome("", outcome.steps, outcome.changed, "retired")


def _play(
    board: _Board, on_event: Callable[[StepEvent], None], say: Say, *, dry_run: bool
) -> RunOutcome:
    farm, wanted = board.farm, board.wanted
    usual = boards.provisioning_context(farm.home, farm.controller, on_event, say)

    def recognise(facts: DeviceFacts) -> str:
        board.device_class = usual.recognise(facts)
        return board.device_class

    work = dataclasses.replace(usual, controller=board, recognise=recognise)
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


class _Board:
    """The controller as a playbook sees it, for one board: which is what the file says before it
    can be given any work."""

    def __init__(self, farm: FarmAccess, wanted: WantedBoard) -> None:
        self.farm = farm
        self.wanted = wanted
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
        found = self.farm.client.find_device(device)
        if found is not None and found.facts is None:
            joined = found.model_copy(update={"facts": {}})
            self.settle(list(at_controller(self.wanted, self.device_class, joined)))
        return token

    def classify(self, device: str, device_class: str) -> None:
        self.farm.controller.classify(device, device_class)

    def check_health(self, device: str, limit_s: float) -> HealthCheckOutcome | None:
        return self.farm.controller.check_health(device, limit_s)

    def retire(self, device: str) -> None:
        self.farm.controller.retire(device)

    def settle(self, differ: list[Difference]) -> None:
        """Have the controller keep what the file says."""
        client, name = self.farm.client, self.wanted.name
        changed = {d.what for d in differ}
        if "class" in changed:
            client.classify(name, self.device_class)
        kept = self.wanted.tags or {}
        tags = {d.what.removeprefix("tags."): "" for d in differ if d.what.startswith("tags.")}
        if tags:
            client.tag(name, {key: kept.get(key, "") for key in tags})
        if "enabled" in changed:
            client.enable(name, bool(self.wanted.enabled))
