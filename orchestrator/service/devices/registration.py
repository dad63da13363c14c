"""Registering devices: join tokens, enrolment, reported facts."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from agent.contract import codec
from agent.contract.api_messages import Enrolled, Enrolment
from agent.contract.device import DeviceFacts
from orchestrator.domain import device_name
from orchestrator.domain.device_class import recognise
from orchestrator.domain.errors import Conflict, NotAllowed
from orchestrator.domain.health import Health
from orchestrator.service.context import FarmContext
from orchestrator.service.device_state import retired
from orchestrator.service.devices import broker_users, devices, health_check_rows, tokens
from orchestrator.service.views import JoinView
from orchestrator.store.device_class_files import device_classes
from orchestrator.store.tables import Device, Token

JOIN_LIFETIME = timedelta(hours=24)
UNKNOWN_CLASS = "unknown"
JOIN, REJOIN = "join", "rejoin"
"""Roles of one-time tokens that enrol a board: a new device only; also one that has joined
before."""


def join_token(
    farm: FarmContext,
    name: str,
    *,
    device_class: str = "",
    tags: dict[str, str] | None = None,
    again: bool = False,
) -> JoinView:
    """A one-time secret with which a board enrols as device ``name``.

    ``again``: also where the device has joined before, for a board that lost its token; the old
    token is revoked when the new one is issued.

    Raises:
        UserError: an invalid name or tag. NotFound: an unknown class.
        Conflict: the device has joined before.
    """
    device_name.require(name)
    devices.require_tags(tags or {})
    if device_class:
        devices.require_class(device_class)
    kept: dict[str, str] = {}
    with farm.database.transaction() as session:
        device = session.scalar(select(Device).where(Device.name == name))
        if device is None:
            device = Device(name=name, device_class=device_class or UNKNOWN_CLASS, tags=tags or {})
            session.add(device)
            session.flush()
            farm.record_event(session, "device_added", name)
        elif device.facts is not None and not again:
            raise Conflict(f"device {name!r} has joined already; choose another name")
        elif device.facts is None:  # never joined, or retired: its tags stay, its class is read
            kept = dict(device.tags)  # anew, for the board may be another one
            device.device_class = device_class or UNKNOWN_CLASS
            device.tags = {**kept, **(tags or {})}
            if retired(device):
                returned = {"tags": kept, "runtimes": list(device.former_runtimes)}
                farm.record_event(session, "device_added", name, returned=returned)
            device.agent_version, device.retired_at = "", None
        role = REJOIN if again else JOIN
        secret = tokens.issue(
            farm, session, role, device_id=device.id, note=name, lifetime=JOIN_LIFETIME
        )
        return JoinView(
            device=name,
            url=farm.settings.public_url,
            join_token=secret,
            expires_at=farm.now() + JOIN_LIFETIME,
            kept_tags=kept,
            former_runtimes=list(device.former_runtimes) if device.facts is None else [],
        )


def enrol(farm: FarmContext, enrolment: Enrolment, broker_url: str) -> Enrolled:
    """Redeem a join token for a device token.

    ``broker_url``: returned to the device, with its own credentials where the broker has users.

    Raises:
        NotAllowed: the join token is spent, expired, or for another device.
        Conflict: the device has joined meanwhile with another join token.
    """
    password, digest = broker_users.new_password()
    with farm.database.transaction() as session:
        token = tokens.lock_valid_token(farm, session, enrolment.join_token)
        if token.role not in (JOIN, REJOIN) or token.note != enrolment.name:
            raise NotAllowed(f"this is not a join token for device {enrolment.name!r}")
        token.revoked_at = farm.now()
        device = session.get_one(Device, token.device_id, with_for_update=True)
        if device.facts is not None and token.role != REJOIN:
            raise Conflict(f"device {device.name!r} has joined already; choose another name")
        revoke_device_tokens(farm, session, device, ("device",))
        device.agent_version = enrolment.agent_version
        reset_health(device)
        device.baseline_at = farm.now()
        device.broker_digest = digest if farm.broker_access else ""
        device.former_runtimes, device.former_name = [], ""
        _write_facts(device, enrolment.facts)
        secret = tokens.issue(farm, session, "device", device_id=device.id, note=device.name)
        farm.record_event(session, "device_joined", device.name, device_class=device.device_class)
    if farm.broker_access is not None:
        broker_users.set_broker_user(farm, enrolment.name, digest)
        broker_url = farm.broker_access.url_for(enrolment.name, password)
    return Enrolled(enrolment.name, secret, broker_url, farm.settings.heartbeat_s)


def reset_health(device: Device) -> None:
    """Forget the health of a board that may be another one now: its first check is due.

    Maintenance is kept.
    """
    if device.health != Health.MAINTENANCE:
        device.health = Health.UNKNOWN.value
    device.health_reasons, device.checks_failed, device.checked_at = [], 0, None
    device.storage_free_mib = device.temperature_c = device.clock_skew_s = None


def rotate(farm: FarmContext, name: str) -> JoinView:
    """Revoke a device's token and broker password, and issue a join token with which it gets new
    ones. Its measurements and settings are kept.

    Raises:
        NotFound: there is no such device.
    """
    with farm.database.transaction() as session:
        found = devices.find(session, name)
        revoke_device_tokens(farm, session, found)
        found.broker_digest = ""
        farm.record_event(session, "device_rotated", name)
    broker_users.delete_broker_user(farm, name)
    return join_token(farm, name, again=True)


def new_broker_url(farm: FarmContext, name: str) -> str:
    """The broker's address with a new password for a device on this machine; empty where the broker
    has no users.

    Raises:
        NotFound: there is no such device.
    """
    if farm.broker_access is None:
        return ""
    password, digest = broker_users.new_password()
    with farm.database.transaction() as session:
        devices.find(session, name).broker_digest = digest
    broker_users.set_broker_user(farm, name, digest)
    return farm.broker_access.url_for(name, password)


def revoke_device_tokens(
    farm: FarmContext,
    session: Session,
    device: Device,
    roles: tuple[str, ...] = (JOIN, REJOIN, "device"),
) -> None:
    """Revoke the device's tokens of these roles."""
    wanted = (Token.device_id == device.id, Token.role.in_(roles), Token.revoked_at.is_(None))
    session.execute(update(Token).where(*wanted).values(revoked_at=farm.now()))


def record_facts(farm: FarmContext, device_id: int, facts: DeviceFacts) -> None:
    """Store what a device reports of itself. Locks its row."""
    with farm.database.transaction() as session:
        device = session.get_one(Device, device_id, with_for_update=True)
        _write_facts(device, facts)
        health_check_rows.update_pending_check(session, device, facts)
        if device.health == Health.UNKNOWN:  # it may have got its first runtime: check it now
            device.checked_at = None


def _write_facts(device: Device, facts: DeviceFacts) -> None:
    device.facts = codec.to_plain(facts)
    if device.device_class == UNKNOWN_CLASS:
        device.device_class = recognise(device_classes(), facts)
