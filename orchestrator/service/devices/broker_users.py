"""The broker's users: each device has its own, which reads its own queue only.

The database stores the SHA-256 of a device's broker password, which is all that Redis needs; the
device gets the password itself once, when it enrols.
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
from orchestrator.store.database import DATABASE_UNAVAILABLE, first_line
from orchestrator.store.tables import Device

log = logging.getLogger(__name__)


def new_password() -> tuple[str, str]:
    """A new broker password and its SHA-256."""
    password = secrets.token_urlsafe(32)
    return password, tokens.digest(password)


def broker_digests(farm: FarmContext) -> dict[str, str]:
    """Device name → SHA-256 of its broker password, for the devices that have one."""
    with farm.database.read_session() as session:
        query = select(Device.name, Device.broker_digest).where(Device.broker_digest != "")
        return dict(session.execute(query).all())


def broker_users_view(farm: FarmContext) -> BrokerUsersView:
    """The lines of an ACL file for this farm's Redis; empty where its broker is the embedded one,
    which has no users.

    Raises:
        UserError: the settings forbid users.
    """
    if farm.broker_access is None:
        if farm.settings.broker_acl == "off":
            raise UserError(
                "this controller keeps no users on its broker (BENCHFARM_BROKER_ACL=off): boards "
                "would be locked out; start it without that setting"
            )
        return BrokerUsersView(controller="", devices=[], url="")
    return BrokerUsersView(
        controller=farm.broker_access.controller_acl_line(),
        devices=farm.broker_access.acl_lines(broker_digests(farm)),
        url=farm.broker_access.url_without_credentials(),
    )


def set_broker_user(farm: FarmContext, device: str, digest: str) -> None:
    """Give the device its user. Call it after the commit: the broker must not know passwords that
    the database does not."""
    _try_change(farm, lambda access: access.set_user(device, digest), device)


def delete_broker_user(farm: FarmContext, device: str) -> None:
    _try_change(farm, lambda access: access.delete_user(device), device)


def _try_change(farm: FarmContext, change: Callable[[BrokerAccess], None], device: str) -> None:
    if farm.broker_access is None:
        return
    try:
        change(farm.broker_access)
    except BrokerAccessFailed as error:
        log.warning("the broker's user of %s was not changed yet: %s", device, error)


class BrokerUsersSync:
    """Makes the broker's users those of the database, periodically, until stopped.

    A Redis that was restarted has forgotten them; one that was down while a device was retired
    still admits it.
    """

    def __init__(self, farm: FarmContext, every_s: float = ASSERT_S) -> None:
        self._farm = farm
        self._every_s = every_s
        self._stop = threading.Event()
        self._failed = True
        """The broker's last answer was a failure, which is told already: `benchfarm up` tells of
        one at the start."""
        self._thread = threading.Thread(target=self._loop, name="broker-users", daemon=True)

    def __enter__(self) -> BrokerUsersSync:
        if self._farm.broker_access is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _loop(self) -> None:
        while True:
            self._synchronise()
            if self._stop.wait(self._every_s):
                return

    def _synchronise(self) -> None:
        assert self._farm.broker_access is not None
        try:
            self._farm.broker_access.synchronise(broker_digests(self._farm))
            self._failed = False
        except (BrokerAccessFailed, *DATABASE_UNAVAILABLE) as error:
            if not self._failed:  # log an outage once
                log.warning("the broker's users cannot be asserted: %s", first_line(error))
            self._failed = True
        except Exception:
            log.exception("asserting the broker's users failed; trying again")
