"""Taking a device out of the farm: its tokens, its trials, its name."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from orchestrator.domain.trial import FINAL, TrialState
from orchestrator.service.context import FarmContext
from orchestrator.service.devices import broker_users, devices, health_check_rows, registration
from orchestrator.service.trials import builds
from orchestrator.service.trials.transitions import apply, finish_if_done, lifecycle_of, lock
from orchestrator.service.views import RetiredView
from orchestrator.store.tables import Cell, Device, Token, Trial
from orchestrator.store.uploads import Uploads


def retire(farm: FarmContext, name: str) -> RetiredView:
    """The device's tokens are refused from now on, its open trials are cancelled, and its name is
    free for another board. One that was measured stays listed: its measurements are its own.

    Raises:
        NotFound: there is no such device.
    """
    with farm.database.transaction() as session:
        # the row's lock first: neither a claim nor a new sweep comes in between
        found = session.get_one(
            Device, devices.find(session, name).id, with_for_update=True, populate_existing=True
        )
        registration.revoke(farm, session, found)
        unused = health_check_rows.forget(session, found)
        cancelled = _cancel(farm, session, found)
        farm.note(session, "device_retired", name, cancelled=cancelled)
        kept = session.scalar(select(Cell.id).where(Cell.device_id == found.id).limit(1))
        if kept is None:
            session.execute(delete(Token).where(Token.device_id == found.id))
            session.delete(found)
        else:
            found.facts = found.seen_at = None
            found.broker_digest = ""
            registration.unknown_health(found)
    broker_users.dismiss(farm, name)
    Uploads(farm.blobs).drop(found.id)
    farm.free(unused)
    return RetiredView(cancelled=cancelled, kept=kept is not None)


def _cancel(farm: FarmContext, session: Session, device: Device) -> int:
    """Close its trials, and those of others that wait for what it would have built."""
    is_open = Trial.state.in_([s.value for s in TrialState if s not in FINAL])
    mine = (Trial.device_id == device.id, is_open)
    count = 0
    for sweep_id in session.scalars(
        select(Trial.sweep_id).where(*mine).distinct().order_by(Trial.sweep_id)
    ).all():
        lock(session, sweep_id)
        before = _open_trials(session, sweep_id)
        rows = session.scalars(
            select(Trial).where(Trial.sweep_id == sweep_id, *mine).with_for_update()
        ).all()
        for row in rows:
            if TrialState(row.state) not in FINAL:  # a build before it took it along
                apply(row, lifecycle_of(row).to(TrialState.CANCELLED))
                builds.settle(session, row, None)
        session.flush()
        count += before - _open_trials(session, sweep_id)
        finish_if_done(farm, session, sweep_id)
    return count


def _open_trials(session: Session, sweep_id: int) -> int:
    states = [s.value for s in TrialState if s not in FINAL]
    query = select(Trial.id).where(Trial.sweep_id == sweep_id, Trial.state.in_(states))
    return len(session.scalars(query).all())
