"""Removing a device from the farm: revoke its tokens, cancel its trials, free its name."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from orchestrator.domain.errors import Conflict
from orchestrator.domain.trial import FINAL, TrialState
from orchestrator.service.context import FarmContext
from orchestrator.service.device_state import facts_of, retired
from orchestrator.service.devices import broker_users, devices, health_check_rows, registration
from orchestrator.service.trials import builds
from orchestrator.service.trials.transitions import (
    IS_OPEN,
    apply,
    finish_sweep_if_done,
    lifecycle_of,
    lock_sweep,
)
from orchestrator.service.views import RetiredView
from orchestrator.store.tables import Cell, Device, Token, Trial
from orchestrator.store.uploads import Uploads


def retire(farm: FarmContext, name: str) -> RetiredView:
    """Revoke a device's tokens, cancel its open trials, and free its name for another board.

    A device that has measurements stays listed as retired. Locks its row, then each sweep that has
    open trials on it, in the order of their ids.

    Its tags stay, for a board that comes back under its name, and what runtimes it had.

    Raises:
        NotFound: there is no such device.
        Conflict: it is retired already.
    """
    with farm.database.transaction() as session:
        # locked first, so that no claim or new sweep comes in between
        found = session.get_one(
            Device, devices.find(session, name).id, with_for_update=True, populate_existing=True
        )
        if retired(found):
            raise Conflict(
                f"{name} is retired already, since {found.retired_at:%Y-%m-%d}; "
                f"`benchfarm device add {name}` brings it back"
            )
        registration.revoke_device_tokens(farm, session, found)
        unused = health_check_rows.delete_all_checks(session, found)
        cancelled = _cancel_open_trials(farm, session, found)
        farm.record_event(session, "device_retired", name, cancelled=cancelled)
        kept = session.scalar(select(Cell.id).where(Cell.device_id == found.id).limit(1))
        if kept is None:
            session.execute(delete(Token).where(Token.device_id == found.id))
            session.delete(found)
        else:
            facts = facts_of(found)
            if facts is not None:  # else it was retired before, and has not joined since
                working = [r for r in facts.runtimes if not r.missing]
                found.former_runtimes = [f"{r.backend}=={r.version}" for r in working]
            found.facts = found.seen_at = None
            found.retired_at = farm.now()
            found.broker_digest, found.noted_online = "", False
            registration.reset_health(found)
    broker_users.delete_broker_user(farm, name)
    Uploads(farm.blobs).drop(found.id)
    farm.free_blobs(unused)
    return RetiredView(cancelled=cancelled, kept=kept is not None)


def _cancel_open_trials(farm: FarmContext, session: Session, device: Device) -> int:
    """Cancel its open trials, and others that wait for what it would have built; returns how
    many."""
    on_device = (Trial.device_id == device.id, IS_OPEN)
    count = 0
    for sweep_id in session.scalars(
        select(Trial.sweep_id).where(*on_device).distinct().order_by(Trial.sweep_id)
    ).all():
        lock_sweep(session, sweep_id)
        before = _count_open_trials(session, sweep_id)
        rows = session.scalars(
            select(Trial).where(Trial.sweep_id == sweep_id, *on_device).with_for_update()
        ).all()
        for row in rows:
            if TrialState(row.state) not in FINAL:  # not cancelled together with its build
                apply(row, lifecycle_of(row).to(TrialState.CANCELLED))
                builds.release_waiting_trials(session, row, None)
        session.flush()
        count += before - _count_open_trials(session, sweep_id)
        finish_sweep_if_done(farm, session, sweep_id)
    return count


def _count_open_trials(session: Session, sweep_id: int) -> int:
    query = select(Trial.id).where(Trial.sweep_id == sweep_id, IS_OPEN)
    return len(session.scalars(query).all())
