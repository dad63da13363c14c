"""Registering devices: join tokens, enrolment, and what a device reports of itself."""

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
from orchestrator.service.devices import broker_users, devices, health_check_rows, tokens
from orchestrator.service.views import JoinView
from orchestrator.store.device_class_files import device_classes
from orchestrator.store.tables import Device, Token

JOIN_LIFETIME = timedelta(hours=24)
UNKNOWN_CLASS = "unknown"
JOIN, REJOIN = "join", "rejoin"
"""Roles of tokens that enrol a board, once: a new device; one that has joined already, too."""


def join_token(
    farm: FarmContext,
    name: str,
    *,
    device_class: str = "",
    tags: dict[str, str] | None = None,
    again: bool = False,
) -> JoinView:
    """A one-time secret with which a board may become the device ``name``.

    ``again``: also where it has joined already, for a board that lost its own token; the old one is
    refused from the moment that the new one is given.

    Raises:
        UserError: a name that could not be a queue's, an unknown class, a tag that is none.
        Conflict: that device has joined already.
    """
    device_name.require(name)
    devices.require_tags(tags or {})
    if device_class:
        devices.require_class(device_class)
    with farm.database.transaction() as session:
        device = session.scalar(select(Device).where(Device.name == name))
        if device is None:
            device = Device(name=name, device_class=device_class or UNKNOWN_CLASS, tags=tags or {})
            session.add(device)
            session.flush()
            farm.note(session, "device_added", name)
        elif device.facts is not None and not again:
            raise Conflict(f"device {name!r} has joined already; choose another name")
        elif device.facts is None:  # asked for before, or retired: what is said now counts
            device.device_class = device_class or UNKNOWN_CLASS
            device.tags = tags or {}
            device.agent_version = ""
        role = REJOIN if again else JOIN
        secret = tokens.issue(
            farm, session, role, device_id=device.id, note=name, lifetime=JOIN_LIFETIME
        )
        return JoinView(
            device=name,
            url=farm.settings.public_url,
            join_token=secret,
            expires_at=farm.now() + JOIN_LIFETIME,
        )


def enrol(farm: FarmContext, enrolment: Enrolment, broker_url: str) -> Enrolled:
    """Redeem a join token. ``broker_url`` is told to the device, with credentials of its own where
    the broker has users.

    Raises:
        NotAllowed: it is spent, expired, or another's.
        Conflict: the device has joined meanwhile, with another join token.
    """
    password, digest = broker_users.new_password()
    with farm.database.transaction() as session:
        token = tokens.valid(farm, session, enrolment.join_token)
        if token.role not in (JOIN, REJOIN) or token.note != enrolment.name:
            raise NotAllowed(f"this is not a join token for device {enrolment.name!r}")
        token.revoked_at = farm.now()
        device = session.get_one(Device, token.device_id, with_for_update=True)
        if device.facts is not None and token.role != REJOIN:
            raise Conflict(f"device {device.name!r} has joined already; choose another name")
        revoke(farm, session, device, ("device",))
        device.agent_version = enrolment.agent_version
        unknown_health(device)
        device.baseline_at = farm.now()
        device.broker_digest = digest if farm.doors else ""
        _take_facts(device, enrolment.facts)
        secret = tokens.issue(farm, session, "device", device_id=device.id, note=device.name)
        farm.note(session, "device_joined", device.name, device_class=device.device_class)
    if farm.doors is not None:
        broker_users.admit(farm, enrolment.name, digest)
        broker_url = farm.doors.url_for(enrolment.name, password)
    return Enrolled(enrolment.name, secret, broker_url, farm.settings.heartbeat_s)


def unknown_health(device: Device) -> None:
    """Of a board that is, or may become, another one: its first check is due. Maintenance stays."""
    if device.health != Health.MAINTENANCE:
        device.health = Health.UNKNOWN.value
    device.health_reasons, device.checks_failed, device.checked_at = [], 0, None
    device.storage_free_mib = device.temperature_c = device.clock_skew_s = None


def rotate(farm: FarmContext, name: str) -> JoinView:
    """Refuse what the device holds now, its token and its broker password, and make a join token
    with which it gets new ones. Its measurements, tags and wishes stay.

    Raises:
        NotFound: there is no such device.
    """
    with farm.database.transaction() as session:
        found = devices.find(session, name)
        revoke(farm, session, found)
        found.broker_digest = ""
        farm.note(session, "device_rotated", name)
    broker_users.dismiss(farm, name)
    return join_token(farm, name, again=True)


def broker_url_of(farm: FarmContext, name: str) -> str:
    """A new broker password for a device on this machine: the address that holds it, empty where
    the broker has no users.

    Raises:
        NotFound: there is no such device.
    """
    if farm.doors is None:
        return ""
    password, digest = broker_users.new_password()
    with farm.database.transaction() as session:
        devices.find(session, name).broker_digest = digest
    broker_users.admit(farm, name, digest)
    return farm.doors.url_for(name, password)


def revoke(
    farm: FarmContext,
    session: Session,
    device: Device,
    roles: tuple[str, ...] = (JOIN, REJOIN, "device"),
) -> None:
    """Refuse the device's tokens of those roles from now on."""
    wanted = (Token.device_id == device.id, Token.role.in_(roles), Token.revoked_at.is_(None))
    session.execute(update(Token).where(*wanted).values(revoked_at=farm.now()))


def take_facts(farm: FarmContext, device_id: int, facts: DeviceFacts) -> None:
    with farm.database.transaction() as session:
        device = session.get_one(Device, device_id, with_for_update=True)
        _take_facts(device, facts)
        health_check_rows.refresh(session, device, facts)
        if device.health == Health.UNKNOWN:  # perhaps for want of a runtime that is there now
            device.checked_at = None


def _take_facts(device: Device, facts: DeviceFacts) -> None:
    device.facts = codec.to_plain(facts)
    if device.device_class == UNKNOWN_CLASS:
        device.device_class = recognise(device_classes(), facts)
