"""Rows of running sweeps: locked in one order, moved as the domain says, closed at the end."""

from __future__ import annotations

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from orchestrator.domain import trial as lifecycle
from orchestrator.domain.errors import Conflict
from orchestrator.domain.trial import FINAL, TrialState
from orchestrator.service.context import FarmContext
from orchestrator.store.tables import SWEEP, Sweep, Trial

SWEEP_LOCK = 0x7377  # "sw": any number that only benchfarm takes


def lock(session: Session, sweep_id: int) -> Sweep:
    """The sweep's row, locked until the transaction ends, and as it is now.

    Whoever counts a sweep's trials, or changes several, takes it first: two last results at once
    would each see the other's trial open, and nobody would close the sweep. Always before the
    lock of any trial, so that no two transactions wait for each other. Raises ``Conflict``.
    """
    _alone(session, sweep_id)
    found = session.get(Sweep, sweep_id, with_for_update=True, populate_existing=True)
    if found is None:
        raise Conflict("the sweep was deleted a moment ago")
    return found


_ALONE = select(func.pg_advisory_xact_lock(SWEEP_LOCK, bindparam("sweep")))


def _alone(session: Session, sweep_id: int) -> None:
    """Hold off plain results, too, which share this lock. Not as locks of the row: those who share
    one would let nobody else ever have it. On SQLite it is enough to begin."""
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        connection.execute(_ALONE, {"sweep": sweep_id})


def has_open(session: Session, sweep_id: int, device_id: int = 0) -> bool:
    """Whether a trial of a sweep, of one device where it is named, is in no final state yet."""
    session.flush()
    query = _LEFT_THERE if device_id else _LEFT
    given = {"sweep": sweep_id, "device": device_id} if device_id else {"sweep": sweep_id}
    return session.connection().execute(query, given).first() is not None


def finish_if_done(farm: FarmContext, session: Session, sweep_id: int, device_id: int = 0) -> None:
    """Close a sweep whose every trial is in a final state. The caller has ``lock``ed it.

    ``device_id``: one that probably has trials left; asked first, for that is found at once.
    """
    if device_id and has_open(session, sweep_id, device_id):
        return
    if not has_open(session, sweep_id):
        finish(farm, session, session.get_one(Sweep, sweep_id))


OPEN = Trial.state.in_([state.value for state in TrialState if state not in FINAL])
"""Of trials: in no final state yet."""
_LEFT = select(Trial.id).where(Trial.sweep_id == bindparam("sweep"), OPEN).limit(1)
_LEFT_THERE = _LEFT.where(Trial.device_id == bindparam("device"))


def finish(farm: FarmContext, session: Session, found: Sweep) -> None:
    """Close it. Those that hold health checks stay open: there will be more."""
    if found.finished_at is None and found.kind == SWEEP:
        found.finished_at = farm.now()
        farm.note(session, "sweep_finished", found.name)


def lifecycle_of(row: Trial) -> lifecycle.TrialLifecycle:
    """The domain's view of a trial's row."""
    return lifecycle.TrialLifecycle(str(row.id), TrialState(row.state), row.attempt, row.spent)


def apply(row: Trial, changed: lifecycle.TrialLifecycle) -> None:
    """Write back what the domain decided."""
    row.state, row.attempt, row.spent = changed.state.value, changed.attempt, changed.spent
