"""Boards over SSH: the playbooks, with this farm's controller as they need it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.client import Client
from orchestrator.domain.device_class import recognise
from orchestrator.domain.errors import UserError
from orchestrator.service.views import DeviceView
from orchestrator.settings import reaches_one_machine
from orchestrator.store.classes import device_classes
from playbooks.boards import Workshop
from playbooks.run import Event
from playbooks.site import Known

FOLDER = "boards"


@dataclass(frozen=True)
class Address:
    """How a board was last reached, so that it need not be said again."""

    ssh: str
    identity: str = ""


class Addresses:
    """The addresses of boards, one file each."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER

    def get(self, device: str) -> Address | None:
        try:
            return Address(**json.loads(self._path(device).read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise UserError(f"{self._path(device)}: {error}; give --ssh") from None

    def put(self, device: str, address: Address) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=".")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(address), file)
        os.replace(temporary, self._path(device))

    def forget(self, device: str) -> None:
        self._path(device).unlink(missing_ok=True)

    def _path(self, device: str) -> Path:
        return self._folder / f"{device}.json"


class RemoteController:
    """The controller that ``client`` talks to, as playbooks see it. ``url``: where boards reach it;
    empty: where it says itself."""

    def __init__(self, client: Client, url: str = "") -> None:
        self._client = client
        self._said = client.controller()
        self.url = (url or self._said.url).rstrip("/")

    @property
    def authority(self) -> str:
        """What this machine trusts the controller by, boards are to trust it by, too."""
        return Path(self._client.ca_file).read_text("utf-8") if self._client.ca_file else ""

    def require_reachable(self) -> None:
        """Raises ``UserError`` where no board could reach the controller, or its broker."""
        if reaches_one_machine(f"redis://{urlsplit(self.url).netloc}"):
            raise UserError(
                f"boards cannot reach the controller at {self.url}: start it with --host 0.0.0.0, "
                "or say where it is by --controller-url"
            )
        if self._said.local_broker:
            raise UserError(
                "the controller's message broker answers on its own machine alone, so no board "
                "would hear it: start the controller with BENCHFARM_BROKER_URL=redis://ADDRESS:6379"
                ", a Redis that boards reach"
            )

    def known(self, device: str) -> Known:
        view = self._find(device)
        if view is None or view.facts is None:
            return Known(joined=False)
        answering = (f"{r.backend} {r.version}" for r in view.runtimes if not r.missing)
        return Known(True, view.connection == "online", view.seen_at, frozenset(answering))

    def join_token(self, device: str, device_class: str) -> str:
        return self._client.join_token(device, device_class, again=True).join_token

    def retire(self, device: str) -> None:
        if self._find(device) is not None:
            self._client.retire(device)

    def _find(self, device: str) -> DeviceView | None:
        return next((d for d in self._client.devices() if d.name == device), None)


def workshop(
    home: Path,
    controller: RemoteController,
    tell: Callable[[Event], None],
    note: Callable[[str], None],
) -> Workshop:
    """What the playbooks work with."""
    return Workshop(
        home=home / FOLDER,
        controller=controller,
        recognise=lambda facts: recognise(device_classes(), facts),
        tell=tell,
        note=note,
    )
