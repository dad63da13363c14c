"""Registering devices: join tokens, enrolment, facts, and the wish to have them work."""

from __future__ import annotations

import re
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from agent import codec
from agent.contract import DEVICE_NAME
from agent.device_facts import DeviceFacts
from agent.uplink_messages import Enrolled, Enrolment
from orchestrator.domain import builders
from orchestrator.domain.device_class import recognise
from orchestrator.domain.errors import Conflict, NotAllowed, NotFound, UserError
from orchestrator.service import access, admission
from orchestrator.service.farm import Farm
from orchestrator.service.views import DeviceView, JoinView, RuntimeView
from orchestrator.store.classes import device_classes
from orchestrator.store.models import Cell, Device, Token

JOIN_LIFETIME = timedelta(hours=24)
TAG_KEY = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
LONGEST_TAG = 200
UNKNOWN_CLASS = "unknown"
JOIN, REJOIN = "join", "rejoin"
"""Roles of tokens that enrol a board, once: a new device; one that has joined already, too."""


def join_token(
    farm: Farm,
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
    if not re.fullmatch(DEVICE_NAME, name):
        raise UserError(
            f"device name {name!r}: expected 1 to 63 of a-z, 0-9 and -, not - at either end"
        )
    _check_tags(tags or {})
    known = [c.name for c in device_classes()]
    if device_class and device_class not in known:
        raise NotFound("device class", device_class, known)
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
        role = REJOIN if again else JOIN
        secret = access.issue(
            farm, session, role, device_id=device.id, note=name, lifetime=JOIN_LIFETIME
        )
        return JoinView(
            device=name,
            url=farm.settings.public_url,
            join_token=secret,
            expires_at=farm.now() + JOIN_LIFETIME,
        )


def tag(farm: Farm, name: str, tags: dict[str, str]) -> DeviceView:
    """Set tags; an empty value removes one.

    Raises:
        NotFound: no such device. UserError: a tag that is none.
    """
    _check_tags(tags)
    with farm.database.transaction() as session:
        found = find(session, name)
        found.tags = {k: v for k, v in {**found.tags, **tags}.items() if v}
        farm.note(session, "device_tagged", name, tags=tags)
        return view(farm, found)


def _check_tags(tags: dict[str, str]) -> None:
    for key, value in tags.items():
        if not re.fullmatch(TAG_KEY, key) or key in ("name", "class"):
            raise UserError(
                f"tag {key!r}: expected letters, digits, '.', '_', '-', and neither name nor class"
            )
        if len(value) > LONGEST_TAG or not value.isprintable():
            raise UserError(f"tag {key}: expected one line of at most {LONGEST_TAG} characters")
        if key == builders.TAG and value not in (builders.YES, builders.NO, ""):
            raise UserError(f"tag {key}={value}: expected {builders.YES} or {builders.NO}")


def enrol(farm: Farm, enrolment: Enrolment, broker_url: str) -> Enrolled:
    """Redeem a join token. ``broker_url`` is told to the device, with credentials of its own where
    the broker has users.

    Raises:
        NotAllowed: it is spent, expired, or another's.
        Conflict: the device has joined meanwhile, with another join token.
    """
    password, digest = admission.new_password()
    with farm.database.transaction() as session:
        token = access.valid(farm, session, enrolment.join_token, lock=True)
        if token.role not in (JOIN, REJOIN) or token.note != enrolment.name:
            raise NotAllowed(f"this is not a join token for device {enrolment.name!r}")
        token.revoked_at = farm.now()
        device = session.get_one(Device, token.device_id, with_for_update=True)
        if device.facts is not None and token.role != REJOIN:
            raise Conflict(f"device {device.name!r} has joined already; choose another name")
        _revoke(farm, session, device)
        device.agent_version = enrolment.agent_version
        device.broker_digest = digest if farm.doors else ""
        _take_facts(device, enrolment.facts)
        secret = access.issue(farm, session, "device", device_id=device.id, note=device.name)
        farm.note(session, "device_joined", device.name, device_class=device.device_class)
    if farm.doors is not None:
        admission.admit(farm, enrolment.name, digest)
        broker_url = farm.doors.url_for(enrolment.name, password)
    return Enrolled(enrolment.name, secret, broker_url, farm.settings.heartbeat_s)


def rotate(farm: Farm, name: str) -> JoinView:
    """Refuse what the device holds now, its token and its broker password, and make a join token
    with which it gets new ones. Its measurements, tags and wishes stay.

    Raises:
        NotFound: there is no such device.
    """
    with farm.database.transaction() as session:
        found = find(session, name)
        _revoke(farm, session, found, (JOIN, REJOIN, "device"))
        found.broker_digest = ""
        farm.note(session, "device_rotated", name)
    admission.dismiss(farm, name)
    return join_token(farm, name, again=True)


def broker_url_of(farm: Farm, name: str) -> str:
    """A new broker password for a device on this machine: the address that holds it, empty where
    the broker has no users.

    Raises:
        NotFound: there is no such device.
    """
    if farm.doors is None:
        return ""
    password, digest = admission.new_password()
    with farm.database.transaction() as session:
        find(session, name).broker_digest = digest
    admission.admit(farm, name, digest)
    return farm.doors.url_for(name, password)


def retire(farm: Farm, name: str) -> None:
    """The device's tokens are refused from now on, it is given no more work, and its name is free
    for another board. One that was measured stays listed: its measurements are its own.

    Raises:
        NotFound: there is no such device.
    """
    with farm.database.transaction() as session:
        found = find(session, name)
        _revoke(farm, session, found, (JOIN, REJOIN, "device"))
        farm.note(session, "device_retired", name)
        if session.scalar(select(Cell.id).where(Cell.device_id == found.id).limit(1)) is None:
            session.execute(delete(Token).where(Token.device_id == found.id))
            session.delete(found)
        else:
            found.facts = found.seen_at = None
            found.broker_digest = ""
    admission.dismiss(farm, name)


def _revoke(
    farm: Farm, session: Session, device: Device, roles: tuple[str, ...] = ("device",)
) -> None:
    wanted = (Token.device_id == device.id, Token.role.in_(roles), Token.revoked_at.is_(None))
    session.execute(update(Token).where(*wanted).values(revoked_at=farm.now()))


def take_facts(farm: Farm, device_id: int, facts: DeviceFacts) -> None:
    with farm.database.transaction() as session:
        _take_facts(session.get_one(Device, device_id), facts)


def _take_facts(device: Device, facts: DeviceFacts) -> None:
    device.facts = codec.to_plain(facts)
    if device.device_class == UNKNOWN_CLASS:
        device.device_class = recognise(device_classes(), facts)


def devices(farm: Farm) -> list[DeviceView]:
    with farm.database.snapshot() as session:
        return [view(farm, d) for d in session.scalars(select(Device).order_by(Device.name))]


def device(farm: Farm, name: str) -> DeviceView:
    with farm.database.snapshot() as session:
        return view(farm, find(session, name))


def enable(farm: Farm, name: str, enabled: bool) -> DeviceView:
    """Say whether the device should be given work; what runs there ends normally."""
    with farm.database.transaction() as session:
        found = find(session, name)
        found.enabled = enabled
        farm.note(session, "device_enabled" if enabled else "device_drained", name)
        return view(farm, found)


def find(session: Session, name: str) -> Device:
    """Raises ``NotFound``."""
    found = session.scalar(select(Device).where(Device.name == name))
    if found is None:
        raise NotFound("device", name, list(session.scalars(select(Device.name))))
    return found


def online(farm: Farm, found: Device) -> bool:
    limit = timedelta(seconds=farm.settings.offline_after_s)
    return found.seen_at is not None and farm.now() - found.seen_at < limit


def facts_of(found: Device) -> DeviceFacts | None:
    return None if found.facts is None else codec.from_plain(DeviceFacts, found.facts)


def view(farm: Farm, found: Device) -> DeviceView:
    facts = facts_of(found)
    return DeviceView(
        name=found.name,
        device_class=found.device_class,
        tags=found.tags,
        enabled=found.enabled,
        connection="online" if online(farm, found) else "offline",
        health=found.health,
        agent_version=found.agent_version,
        seen_at=found.seen_at,
        facts=found.facts,
        runtimes=[
            RuntimeView(
                backend=r.backend,
                version=r.version,
                targets={t.name: list(t.precisions) for t in r.targets},
                environment=r.environment,
                missing=r.missing,
            )
            for r in (facts.runtimes if facts else ())
        ],
    )


def name_of(farm: Farm, device_id: int) -> str:
    with farm.database.snapshot() as session:
        return session.get_one(Device, device_id).name
