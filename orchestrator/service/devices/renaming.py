"""Giving a device another name; what was measured on it goes along.

A name stands in the board's own configuration, in its queue and in its user on the broker. So its
secrets are revoked with the old name, and the board joins again under the new one.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from orchestrator.domain import device_name
from orchestrator.domain.errors import Conflict
from orchestrator.domain.trial import OUTSTANDING
from orchestrator.service.context import FarmContext
from orchestrator.service.device_state import retired
from orchestrator.service.devices import broker_users, devices, health_check_rows, registration
from orchestrator.service.trials.transitions import IS_OPEN
from orchestrator.service.views import JoinView
from orchestrator.store.tables import HEALTH, SWEEP, Device, Sweep, Trial


def rename(farm: FarmContext, name: str, to: str) -> JoinView:
    """Rename a device; returns the join token with which its board joins under the new name.

    Tags, class, health, measurements and the sweeps that name it follow. Locks its row.

    Raises:
        UserError: ``to`` is no valid name. NotFound: there is no such device.
        Conflict: ``to`` is taken, or the device is retired, or has trials to run or runs one.
    """
    device_name.require(to)
    with farm.database.transaction() as session:
        # locked first, so that no claim or new sweep comes in between
        found = session.get_one(
            Device, devices.find(session, name).id, with_for_update=True, populate_existing=True
        )
        _require_renamable(session, found, to)
        registration.revoke_device_tokens(farm, session, found)
        _rename_in_sweeps(session, name, to)
        found.name, found.former_name = to, name if found.facts is not None else ""
        found.broker_digest, found.seen_at, found.noted_online = "", None, False
        farm.record_event(session, "device_renamed", to, was=name)
    broker_users.delete_broker_user(farm, name)
    return registration.join_token(farm, to, again=True)


def _require_renamable(session: Session, found: Device, to: str) -> None:
    """Raises ``Conflict``."""
    if session.scalar(select(Device.id).where(Device.name == to)) is not None:
        raise Conflict(f"there is a device {to!r} already; choose another name")
    if retired(found):
        raise Conflict(f"{found.name} is retired: its name stays with its measurements")
    of_device = select(Trial.id, Trial.state, Sweep.kind).join(Sweep, Trial.sweep_id == Sweep.id)
    rows = session.execute(of_device.where(Trial.device_id == found.id, IS_OPEN)).all()
    waiting = sum(1 for _, _, kind in rows if kind != HEALTH)
    if waiting:
        raise Conflict(
            f"{found.name} has {waiting} trial{'' if waiting == 1 else 's'} to run: wait for their "
            "end (`benchfarm device watch`), or `benchfarm sweep cancel SWEEP --device "
            f"{found.name}` and resume the sweep afterwards"
        )
    if any(state in {s.value for s in OUTSTANDING} for _, state, _ in rows):
        raise Conflict(f"{found.name} runs a health check now; try again in a moment")


def _rename_in_sweeps(session: Session, name: str, to: str) -> None:
    """Its hidden sweep, and the specs that name it: their reports look for it by its name."""
    hidden = select(Sweep).where(Sweep.name == health_check_rows.hidden_sweep_name(name))
    for sweep in session.scalars(hidden):
        sweep.name = health_check_rows.hidden_sweep_name(to)
    for sweep in session.scalars(select(Sweep).where(Sweep.kind == SWEEP)):
        chosen, baseline = sweep.spec.get("devices") or {}, sweep.spec.get("baseline") or {}
        names = chosen.get("names") or []
        if name in names or baseline.get("device") == name:
            moved = {"device": to} if baseline.get("device") == name else {}
            sweep.spec = {
                **sweep.spec,
                "devices": {**chosen, "names": [to if n == name else n for n in names]},
                "baseline": {**baseline, **moved},
            }
