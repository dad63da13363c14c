"""Who may hear which doorbell: each device has a user of its own on the broker.

The database keeps the SHA-256 of a device's broker password, which is all that Redis needs; the
password itself is told to the device once, as it enrols.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable

from sqlalchemy import select

from orchestrator.domain.errors import UserError
from orchestrator.service.context import FarmContext
from orchestrator.service.devices import tokens
from orchestrator.service.ports import ASSERT_S, BrokerAccess, BrokerAccessFailed
from orchestrator.service.views import BrokerUsersView
from orchestrator.store.database import AWAY, first_line
from orchestrator.store.tables import Device

log = logging.getLogger(__name__)


def new_password() -> tuple[str, str]:
    """A password for the broker and its SHA-256."""
    password = secrets.token_urlsafe(32)
    return password, tokens.digest(password)


def digests(farm: FarmContext) -> dict[str, str]:
    """By device, the SHA-256 of its broker password; those without one have no business there."""
    with farm.database.snapshot() as session:
        query = select(Device.name, Device.broker_digest).where(Device.broker_digest != "")
        return dict(session.execute(query).all())


def users(farm: FarmContext) -> BrokerUsersView:
    """What an ACL file of this farm's Redis holds.

    Raises:
        UserError: its broker has no users.
    """
    if farm.doors is None:
        raise UserError(
            "this controller's broker has no users: they are Redis' own (BENCHFARM_BROKER_URL="
            "redis://…), and BENCHFARM_BROKER_ACL is not off"
        )
    return BrokerUsersView(
        controller=farm.doors.controller_line(),
        devices=farm.doors.lines(digests(farm)),
        url=farm.doors.place(),
    )


def admit(farm: FarmContext, device: str, digest: str) -> None:
    """After the commit, so that the broker never knows what the database does not."""
    _attempt(farm, lambda doors: doors.admit(device, digest), device)


def dismiss(farm: FarmContext, device: str) -> None:
    _attempt(farm, lambda doors: doors.dismiss(device), device)


def _attempt(farm: FarmContext, change: Callable[[BrokerAccess], None], device: str) -> None:
    if farm.doors is None:
        return
    try:
        change(farm.doors)
    except BrokerAccessFailed as error:
        log.warning("the broker's user of %s was not changed yet: %s", device, error)


class BrokerUsersSync:
    """Asserts the broker's users from the database until stopped: a Redis that was restarted has
    forgotten them, one that was away when a device was retired still lets it in."""

    def __init__(self, farm: FarmContext, every_s: float = ASSERT_S) -> None:
        self._farm = farm
        self._every_s = every_s
        self._stop = threading.Event()
        self._failed = False
        self._thread = threading.Thread(target=self._loop, name="doors", daemon=True)

    def __enter__(self) -> BrokerUsersSync:
        if self._farm.doors is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _loop(self) -> None:
        while True:
            self._look()
            if self._stop.wait(self._every_s):
                return

    def _look(self) -> None:
        assert self._farm.doors is not None
        try:
            self._farm.doors.assert_all(digests(self._farm))
            self._failed = False
        except (BrokerAccessFailed, *AWAY) as error:
            if not self._failed:  # an hour without broker, or database, is one line
                log.warning("the broker's users cannot be asserted: %s", first_line(error))
            self._failed = True
        except Exception:
            log.exception("asserting the broker's users failed; trying again")
