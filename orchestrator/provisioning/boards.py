"""Adapters between the playbooks and this farm: the controller, classes, known addresses."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.client import Client
from orchestrator.domain import device_name
from orchestrator.domain.device_class import DeviceClass, recognise
from orchestrator.domain.errors import UserError
from orchestrator.service.views import DeviceView, JoinView
from orchestrator.settings import reaches_one_machine
from orchestrator.store.device_class_files import device_classes
from playbooks.classes import BoardClass, VendorRuntime
from playbooks.playbook import ProvisioningContext
from playbooks.step_runner import StepEvent
from playbooks.target import HealthCheckOutcome, KnownDevice
from playbooks.waiting import Waiting, unseen

FOLDER = "boards"
LOCAL_AGENT = "agent"
"""Folder below the controller's home: the state of the local agent."""
POLL_S = 0.5


@dataclass(frozen=True)
class BoardAddress:
    """The SSH login of a board, kept so that it need not be given again."""

    ssh: str
    identity: str = ""


class AddressBook:
    """The addresses of boards, in one file each."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER

    def get(self, device: str) -> BoardAddress | None:
        try:
            return BoardAddress(**json.loads(self._path(device).read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise UserError(f"{self._path(device)}: {error}; give --ssh") from None

    def put(self, device: str, address: BoardAddress) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=".")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(address), file)
        os.replace(temporary, self._path(device))

    def rename(self, device: str, to: str) -> None:
        """Keep an address under another name, where there is one."""
        if self._path(device).exists():
            os.replace(self._path(device), self._path(to))

    def forget(self, device: str) -> None:
        self._path(device).unlink(missing_ok=True)

    def _path(self, device: str) -> Path:
        device_name.require(device)
        return self._folder / f"{device}.json"


def uncheckable(view: DeviceView) -> str:
    """Why no health check could say anything of a device."""
    ended = view.health == "unknown" and view.checked_at is not None and not view.checks_failed
    return "; ".join(view.health_reasons) if ended else ""


class RemoteController:
    """A ``PlaybookController`` over HTTP. ``url``: where boards reach it; empty: the URL that the
    controller reports."""

    def __init__(self, client: Client, url: str = "") -> None:
        self._client = client
        self._info = client.controller()
        self.authority = client.authority()
        """The certificates by which boards trust the controller and its broker; empty: theirs
        suffice."""
        self.url = (url or self._info.url).rstrip("/")
        self.cancelled = 0
        """Number of trials cancelled because their device was retired."""
        self.joined: dict[str, JoinView] = {}
        """The devices that got a join token, and what they kept from before they were retired."""

    def require_reachable(self) -> None:
        """Raises ``UserError`` if boards cannot reach the controller or its broker."""
        if reaches_one_machine(f"redis://{urlsplit(self.url).netloc}"):
            raise UserError(
                f"boards cannot reach the controller at {self.url}: start it with --host 0.0.0.0, "
                "or say where it is by --controller-url"
            )
        if self._info.local_broker:
            raise UserError(
                "the controller's message broker answers on its own machine alone, so no board "
                "would hear it: start the controller with BENCHFARM_BROKER_URL=redis://ADDRESS:6379"
                ", a Redis that boards reach"
            )

    def known(self, device: str) -> KnownDevice:
        view = self._client.find_device(device)
        if view is None or view.facts is None:
            return KnownDevice(joined=False)
        answering = (f"{r.backend} {r.version}" for r in view.runtimes if not r.missing)
        return KnownDevice(
            joined=True,
            online=view.connection == "online",
            seen_at=view.seen_at,
            runtimes=frozenset(answering),
            device_class=view.device_class,
            health=view.health,
            uncheckable=uncheckable(view),
            former_name=view.former_name,
        )

    def check_health(self, device: str, limit_s: float) -> HealthCheckOutcome | None:
        deadline = time.monotonic() + limit_s
        found = self._client.ask_check(device)
        while found.ended_at is None:
            if time.monotonic() > deadline:
                return None
            time.sleep(POLL_S)
            found = self._client.check(device, found.id)
        return HealthCheckOutcome(found.ok, tuple(found.reasons))

    def join_token(self, device: str, device_class: str) -> str:
        self.joined[device] = self._client.join_token(device, device_class, again=True)
        return self.joined[device].join_token

    def classify(self, device: str, device_class: str) -> None:
        self._client.classify(device, device_class)

    def retire(self, device: str) -> None:
        found = self._client.find_device(device)
        if found is not None and found.connection != "retired":
            self.cancelled += self._client.retire(device).cancelled


def provisioning_context(
    home: Path,
    controller: RemoteController,
    on_event: Callable[[StepEvent], None],
    on_message: Callable[[str], None],
    waiting: Waiting = unseen,
) -> ProvisioningContext:
    """The playbooks' context for this farm."""
    return ProvisioningContext(
        home=home / FOLDER,
        controller=controller,
        classes={c.name: board_class(c) for c in device_classes()},
        recognise=lambda facts: recognise(device_classes(), facts),
        on_event=on_event,
        on_message=on_message,
        waiting=waiting,
    )


def board_class(given: DeviceClass) -> BoardClass:
    """Convert a device class for the playbooks."""
    return BoardClass(
        name=given.name,
        runtimes=tuple(
            r if isinstance(r, str) else VendorRuntime(**r.model_dump()) for r in given.runtimes
        ),
        groups=given.groups,
        steps=given.steps,
        power=given.power.commands() if given.power else None,
    )


def answering(view: DeviceView) -> dict[str, dict[str, set[str]]]:
    """Backend → target → precisions that answer on a device, over all versions."""
    found: dict[str, dict[str, set[str]]] = {}
    for runtime in view.runtimes:
        for target, precisions in ({} if runtime.missing else runtime.targets).items():
            found.setdefault(runtime.backend, {}).setdefault(target, set()).update(precisions)
    return found


def kept_lines(joined: JoinView, answering_now: Collection[str]) -> list[str]:
    """What a device that comes back under its name kept, and which runtimes it lacks now.

    ``answering_now``: its runtimes as ``NAME==VERSION``.
    """
    name, lines = joined.device, []
    if joined.kept_tags:
        tags = ", ".join(f"{key}={value}" for key, value in sorted(joined.kept_tags.items()))
        lines.append(
            f"{name} is back: its tags are kept ({tags}); `benchfarm device tag {name} KEY=` "
            "removes one"
        )
    lost = [r for r in joined.former_runtimes if r not in answering_now]
    if lost:
        lines.append(
            f"before it was retired {name} also had {', '.join(lost)}: on the board, "
            f"`benchfarm-agent runtimes add {lost[0]}`"
        )
    return lines


def is_local(home: Path, device: str) -> bool:
    """Whether ``device`` is the local agent of the controller in ``home``."""
    from agent.worker.config import load
    from agent.worker.errors import AgentError

    try:
        return load(home / LOCAL_AGENT).device == device
    except AgentError:
        return False
