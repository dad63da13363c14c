"""Devices as people see and change them: listing, tags, class, draining."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from orchestrator.domain import tags as tag_rules
from orchestrator.domain.errors import NotFound, UserError
from orchestrator.service.context import FarmContext
from orchestrator.service.device_state import facts_of, online, retired
from orchestrator.service.devices import workload
from orchestrator.service.views import DeviceView, RuntimeView
from orchestrator.store.device_class_files import device_classes
from orchestrator.store.tables import Device

LONGEST_NOTE = 200


def devices(farm: FarmContext) -> list[DeviceView]:
    with farm.database.read_session() as session:
        workloads = workload.by_device(session)
        listed = session.scalars(select(Device).order_by(Device.name))
        return [device_view(farm, d, workloads.get(d.id, workload.NO_WORKLOAD)) for d in listed]


def device(farm: FarmContext, name: str) -> DeviceView:
    with farm.database.read_session() as session:
        return _device_view(farm, session, find(session, name))


def tag(farm: FarmContext, name: str, tags: dict[str, str]) -> DeviceView:
    """Set tags; an empty value removes the tag.

    Raises:
        NotFound: no such device. UserError: an invalid tag.
    """
    require_tags(tags)
    with farm.database.transaction() as session:
        found = find(session, name)
        found.tags = {k: v for k, v in {**found.tags, **tags}.items() if v}
        farm.record_event(session, "device_tagged", name, tags=tags)
        return _device_view(farm, session, found)


def set_class(farm: FarmContext, name: str, device_class: str) -> DeviceView:
    """Set a device's class; the facts that it reports no longer change it.

    Raises:
        NotFound: no such device, no such class.
    """
    require_class(device_class)
    with farm.database.transaction() as session:
        found = find(session, name)
        if found.device_class != device_class:
            farm.record_event(
                session,
                "device_classified",
                name,
                device_class=device_class,
                before=found.device_class,
            )
            found.device_class = device_class
        return _device_view(farm, session, found)


def set_enabled(farm: FarmContext, name: str, enabled: bool, note: str = "") -> DeviceView:
    """Set whether the device is given work; the trial that runs there ends normally.

    ``note``: why it is drained; without one, a device that is drained already keeps its note.

    Raises:
        NotFound: no such device. UserError: a note of several lines, or too long.
    """
    if len(note) > LONGEST_NOTE or not note.isprintable():
        raise UserError(f"--note: expected one line of at most {LONGEST_NOTE} characters")
    with farm.database.transaction() as session:
        found = find(session, name)
        if enabled:
            farm.record_event(session, "device_enabled", name, note=found.drain_note)
            found.drain_note = ""
        else:
            found.drain_note = note or ("" if found.enabled else found.drain_note)
            farm.record_event(session, "device_drained", name, note=found.drain_note)
        found.enabled = enabled
        return _device_view(farm, session, found)


def require_class(device_class: str) -> None:
    """Raises ``NotFound``."""
    known = [c.name for c in device_classes()]
    if device_class not in known:
        raise NotFound("device class", device_class, known)


def require_tags(given: dict[str, str]) -> None:
    """Raises ``UserError``."""
    for key, value in given.items():
        why = tag_rules.mistake(key, value)
        if why:
            raise UserError(why)


def find(session: Session, name: str) -> Device:
    """Raises ``NotFound``."""
    found = session.scalar(select(Device).where(Device.name == name))
    if found is None:
        raise NotFound("device", name, list(session.scalars(select(Device.name))))
    return found


def _device_view(farm: FarmContext, session: Session, found: Device) -> DeviceView:
    return device_view(
        farm, found, workload.by_device(session, found.id).get(found.id, workload.NO_WORKLOAD)
    )


def device_view(
    farm: FarmContext, found: Device, work: workload.DeviceWorkload = workload.NO_WORKLOAD
) -> DeviceView:
    facts = facts_of(found)
    connection = "online" if online(farm, found.seen_at) else "offline"
    return DeviceView(
        name=found.name,
        device_class=found.device_class,
        tags=found.tags,
        enabled=found.enabled,
        connection="retired" if retired(found) else connection,
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
        health_reasons=list(found.health_reasons),
        checks_failed=found.checks_failed,
        checked_at=found.checked_at,
        storage_free_mib=found.storage_free_mib,
        temperature_c=found.temperature_c,
        clock_skew_s=found.clock_skew_s,
        drain_note=found.drain_note,
        former_runtimes=list(found.former_runtimes),
        former_name=found.former_name,
        running=work.running,
        waiting=work.waiting,
    )
