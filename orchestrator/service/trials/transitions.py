"""Trials' states: rows locked in one order, changed as the domain decides, sweeps closed."""

from __future__ import annotations

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from orchestrator.domain import trial as lifecycle
from orchestrator.domain.errors import Conflict
from orchestrator.domain.trial import FINAL, TrialState
from orchestrator.service.context import FarmContext
from orchestrator.store.tables import SWEEP, Sweep, Trial

SWEEP_LOCK = 0x7377  # "sw": class of the advisory locks on sweeps, used by nothing else

IS_OPEN = Trial.state.in_([state.value for state in TrialState if state not in FINAL])
"""Condition on trials: not in a final state."""

# PostgreSQL only. Waits for plain results of the sweep, which share this advisory lock
# (``attempt_queries.lock_device_and_share_sweep``), and keeps new ones out. They do not share the
# row itself: a steady stream of sharers would keep everybody else from locking it.
SELECT_EXCLUSIVE_SWEEP_LOCK = select(func.pg_advisory_xact_lock(SWEEP_LOCK, bindparam("sweep")))

# These two lock nothing. The one with a device reads fewer rows where the device has trials left.
SELECT_OPEN_TRIAL = select(Trial.id).where(Trial.sweep_id == bindparam("sweep"), IS_OPEN).limit(1)
SELECT_OPEN_TRIAL_ON_DEVICE = SELECT_OPEN_TRIAL.where(Trial.device_id == bindparam("device"))


def lock_sweep(session: Session, sweep_id: int) -> Sweep:
    """The sweep's row as it is now, locked until the transaction ends.

    Required before counting a sweep's trials or changing several of them: two last results at once
    would each see the other's trial open, and nobody would close the sweep. Lock order: after the
    device's row and the blobs, before any trial (docs/decisions/0010-order-of-locks.md).

    Raises ``Conflict`` where the sweep was deleted meanwhile.
    """
    connection = session.connection()
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time
        connection.execute(SELECT_EXCLUSIVE_SWEEP_LOCK, {"sweep": sweep_id})
    found = session.get(Sweep, sweep_id, with_for_update=True, populate_existing=True)
    if found is None:
        raise Conflict("the sweep was deleted a moment ago")
    return found


def has_open_trial(session: Session, sweep_id: int, device_id: int = 0) -> bool:
    """Whether a trial of the sweep is open; with ``device_id``, one of that device."""
    session.flush()
    query = SELECT_OPEN_TRIAL_ON_DEVICE if device_id else SELECT_OPEN_TRIAL
    parameters = {"sweep": sweep_id, **({"device": device_id} if device_id else {})}
    return session.connection().execute(query, parameters).first() is not None


def finish_sweep_if_done(
    farm: FarmContext, session: Session, sweep_id: int, device_id: int = 0
) -> None:
    """Close a sweep that has no open trial. The caller has called ``lock_sweep``.

    ``device_id``: a device that probably has open trials, which is asked first: that is cheap.
    """
    if device_id and has_open_trial(session, sweep_id, device_id):
        return
    if not has_open_trial(session, sweep_id):
        finish_sweep(farm, session, session.get_one(Sweep, sweep_id))


def finish_sweep(farm: FarmContext, session: Session, found: Sweep) -> None:
    """Close a sweep. One that holds a device's health checks stays open: more will follow."""
    if found.finished_at is None and found.kind == SWEEP:
        found.finished_at = farm.now()
        farm.record_event(session, "sweep_finished", found.name)


def lifecycle_of(row: Trial) -> lifecycle.TrialLifecycle:
    """The domain's view of a trial's row."""
    return lifecycle.TrialLifecycle(str(row.id), TrialState(row.state), row.attempt, row.spent)


def apply(row: Trial, changed: lifecycle.TrialLifecycle) -> None:
    """Write the state that the domain decided on to a trial's row, which the caller has locked."""
    row.state, row.attempt, row.spent = changed.state.value, changed.attempt, changed.spent
