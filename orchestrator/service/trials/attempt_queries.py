"""Statements on attempts and their trials, built once and executed without ORM objects.

Starts, results and claims are most of a controller's work, and ORM objects cost three times as
much there. Locks are taken in one order (docs/decisions/0010-order-of-locks.md): the device's
row, the blobs, the sweep, its trials' rows. Each statement says which of them it takes.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection, Row, Table, bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from orchestrator.domain import trial as lifecycle
from orchestrator.domain.errors import Superseded, UnknownAttempt
from orchestrator.domain.trial import OUTSTANDING, TrialState
from orchestrator.service.context import INSERT_EVENT, FarmContext
from orchestrator.service.trials.transitions import SWEEP_LOCK
from orchestrator.store.batched_statements import BatchedStatements
from orchestrator.store.blob_references import BLOBS_LOCK
from orchestrator.store.tables import Attempt, Cell, Device, Sweep, Trial

_attempts, _trials = cast(Table, Attempt.__table__), cast(Table, Trial.__table__)
_ATTEMPT_OF_DEVICE = (
    _attempts.c.id == bindparam("attempt"),
    _attempts.c.device_id == bindparam("device"),
)

# Locks nothing: whether the attempt is the device's never changes.
SELECT_OWN_ATTEMPT = select(_attempts.c.id).where(*_ATTEMPT_OF_DEVICE)

# Locks nothing: these columns of a sweep never change.
SELECT_SWEEP_OF_ATTEMPT = (
    select(Sweep.id, Sweep.name, Sweep.kind, Sweep.attempts)
    .join_from(_attempts, Trial, _attempts.c.trial_id == Trial.id)
    .join(Sweep, Trial.sweep_id == Sweep.id)
    .where(*_ATTEMPT_OF_DEVICE)
)

# Locks the device's row (1), so that only this transaction gives the device a new trial. FOR NO
# KEY UPDATE: a sweep that refers to the device can be submitted meanwhile. SQLite ignores it: its
# transactions that write hold the whole database.
SELECT_SWEEP_LOCK_DEVICE = (
    SELECT_SWEEP_OF_ATTEMPT.add_columns(
        Device.name.label("device_name"),
        Device.enabled,
        Device.health,
        Device.seen_at,
    )
    .join(Device, _attempts.c.device_id == Device.id)
    .with_for_update(of=Device, key_share=True)
)

# PostgreSQL only. Locks the device's row (1), then shares the blobs (2) with others that write
# references, then shares the sweep (3) with other plain results: it excludes only
# ``transitions.lock_sweep``. PostgreSQL never flattens a subquery that locks rows, therefore the
# row is locked before the outer query takes the advisory locks.
_device_locked = SELECT_SWEEP_LOCK_DEVICE.subquery()
SELECT_SWEEP_LOCK_DEVICE_SHARE_BLOBS_AND_SWEEP = select(
    _device_locked,
    func.pg_advisory_xact_lock_shared(BLOBS_LOCK),
    func.pg_advisory_xact_lock_shared(SWEEP_LOCK, _device_locked.c.id),
)

# Locks the trial's row (4): its state is compared with the attempt's number (the fencing token)
# and changed in the same transaction.
SELECT_ATTEMPT_LOCK_TRIAL = (
    select(
        _attempts.c.trial_id,
        _attempts.c.number,
        _attempts.c.note,
        _attempts.c.result,
        Trial.cell_id,
        Trial.state,
        Trial.attempt,
        Trial.spent,
        Cell.build_key,
    )
    .join_from(_attempts, Trial, _attempts.c.trial_id == Trial.id)
    .join(Cell, Trial.cell_id == Cell.id)
    .where(*_ATTEMPT_OF_DEVICE)
    .with_for_update(of=Trial)
)

# Locks the trial's row (4), and reads what the cell asks to be run.
SELECT_ATTEMPT_WITH_REQUEST_LOCK_TRIAL = SELECT_ATTEMPT_LOCK_TRIAL.add_columns(Cell.request)

# The updates below change rows that the caller has locked: a trial's (4), and its attempt's, which
# is only changed under the trial's lock.
UPDATE_TRIAL = update(_trials).where(_trials.c.id == bindparam("which_trial"))
UPDATE_ATTEMPT = update(_attempts).where(_attempts.c.id == bindparam("which_attempt"))
UPDATE_TRIAL_STATE = UPDATE_TRIAL.values(
    state=bindparam("new_state"), attempt=bindparam("new_attempt"), spent=bindparam("new_spent")
)
UPDATE_TRIAL_AND_ATTEMPT_STARTED = BatchedStatements(
    UPDATE_TRIAL_STATE,
    UPDATE_ATTEMPT.values(
        started_at=bindparam("new_started_at"), lease_until=bindparam("new_lease_until")
    ),
)
UPDATE_TRIAL_AND_ATTEMPT_ENDED_INSERT_EVENT = BatchedStatements(
    UPDATE_TRIAL_STATE,
    INSERT_EVENT,
    UPDATE_ATTEMPT.values(
        result=bindparam("new_result"), ended_at=bindparam("new_ended_at"), accepted=True
    ),
)

# The caller has locked the device's row (1) and then the trial's (4).
UPDATE_TRIAL_INSERT_ATTEMPT = BatchedStatements(
    UPDATE_TRIAL_STATE,
    insert(_attempts)
    .values(
        id=bindparam("which_attempt"),
        trial_id=bindparam("of_trial"),
        device_id=bindparam("of_device"),
        number=bindparam("new_number"),
        dispatched_at=bindparam("new_dispatched_at"),
        lease_until=bindparam("new_lease_until"),
        accepted=False,
        note="",
    )
    .inline(),
)


class ClaimingDevice(NamedTuple):
    """What a claim needs to know of a device whose row the caller has locked."""

    id: int
    name: str
    enabled: bool
    health: str
    seen_at: datetime | None


@dataclass(frozen=True)
class LockedAttempt:
    """An attempt as it was read when its trial was locked. ``answered``: it has a result."""

    id: str
    trial_id: int
    cell_id: int
    number: int
    note: str
    answered: bool
    build_key: str
    trial: lifecycle.TrialLifecycle

    def require_current(self) -> None:
        """Raises ``Superseded`` unless this is the last attempt of a trial that has not ended."""
        if self.trial.attempt != self.number or self.trial.state not in OUTSTANDING:
            raise Superseded(
                f"attempt {self.number} of trial {self.trial_id} is over: the trial is "
                f"{self.trial.state} and its last attempt is {self.trial.attempt}"
            )


def require_own_attempt(connection: Connection, device_id: int, attempt_id: str) -> None:
    """Raises ``UnknownAttempt`` where the attempt is not the device's. Locks nothing."""
    _one(connection, SELECT_OWN_ATTEMPT, device_id, attempt_id)


def read_sweep_of_attempt(session: Session, device_id: int, attempt_id: str) -> Row[Any]:
    """``id``, ``name``, ``kind`` and ``attempts`` of the attempt's sweep. Locks nothing.

    Raises ``UnknownAttempt``.
    """
    row: Row[Any] = _one(session.connection(), SELECT_SWEEP_OF_ATTEMPT, device_id, attempt_id)
    return row


def lock_device_and_share_sweep(
    session: Session, device_id: int, attempt_id: str
) -> tuple[Row[Any], ClaimingDevice]:
    """The attempt's sweep, as from ``read_sweep_of_attempt``, and its device.

    Takes, in one statement and in this order: the device's row, as ``dispatch.lock_device`` does;
    the blobs, shared, as ``blob_references.share_blobs`` does; the sweep, shared with other
    callers of this function, which each change a single trial of it. Excludes
    ``transitions.lock_sweep``. Raises ``UnknownAttempt``.
    """
    connection = session.connection()
    on_server = connection.dialect.name == "postgresql"
    query: Any = SELECT_SWEEP_LOCK_DEVICE
    if on_server:
        query = SELECT_SWEEP_LOCK_DEVICE_SHARE_BLOBS_AND_SWEEP
    row: Row[Any] = _one(connection, query, device_id, attempt_id)
    return row, ClaimingDevice(device_id, row.device_name, row.enabled, row.health, row.seen_at)


def lock_attempt(connection: Connection, device_id: int, attempt_id: str) -> LockedAttempt:
    """A device's attempt; locks its trial's row. Raises ``UnknownAttempt``."""
    row = _one(connection, SELECT_ATTEMPT_LOCK_TRIAL, device_id, attempt_id)
    return _locked_attempt(attempt_id, row)


def lock_current_attempt(connection: Connection, device_id: int, attempt_id: str) -> LockedAttempt:
    """A device's attempt that still counts; locks its trial's row.

    Raises ``UnknownAttempt``, ``Superseded``.
    """
    attempt = lock_attempt(connection, device_id, attempt_id)
    attempt.require_current()
    return attempt


def lock_current_attempt_with_request(
    connection: Connection, device_id: int, attempt_id: str
) -> tuple[LockedAttempt, dict[str, Any]]:
    """A device's attempt that still counts, and its cell's request; locks its trial's row.

    Raises ``UnknownAttempt``, ``Superseded``.
    """
    row = _one(connection, SELECT_ATTEMPT_WITH_REQUEST_LOCK_TRIAL, device_id, attempt_id)
    attempt = _locked_attempt(attempt_id, row)
    attempt.require_current()
    return attempt, row.request


def _one(connection: Connection, query: Any, device_id: int, attempt_id: str) -> Any:
    parameters = {"attempt": attempt_id, "device": device_id}
    row = connection.execute(query, parameters).one_or_none()
    if row is None:
        raise UnknownAttempt(f"this device has no attempt {attempt_id!r}")
    return row


def _locked_attempt(attempt_id: str, row: Any) -> LockedAttempt:
    trial = lifecycle.TrialLifecycle(
        str(row.trial_id), TrialState(row.state), row.attempt, row.spent
    )
    answered = row.result is not None
    return LockedAttempt(
        attempt_id, row.trial_id, row.cell_id, row.number, row.note, answered, row.build_key, trial
    )


def update_trial(
    session: Session, trial_id: int, to: lifecycle.TrialLifecycle, **columns: Any
) -> None:
    """Write a trial's new state, and further columns. The caller has locked its row."""
    values = {"state": to.state.value, "attempt": to.attempt, "spent": to.spent, **columns}
    session.connection().execute(UPDATE_TRIAL, {"which_trial": trial_id, **values})


def update_attempt(connection: Connection, attempt_id: str, values: Mapping[str, Any]) -> None:
    """Write columns of an attempt. The caller has locked its trial's row."""
    connection.execute(UPDATE_ATTEMPT, {"which_attempt": attempt_id, **values})


def _new_state(trial_id: int, to: lifecycle.TrialLifecycle) -> dict[str, Any]:
    return {
        "which_trial": trial_id,
        "new_state": to.state.value,
        "new_attempt": to.attempt,
        "new_spent": to.spent,
    }


def write_start(
    farm: FarmContext, connection: Connection, attempt: LockedAttempt, lease_until: datetime
) -> None:
    """The attempt's trial runs from now on. The caller has locked the trial's row."""
    row = {
        **_new_state(attempt.trial_id, attempt.trial.to(TrialState.RUNNING)),
        "which_attempt": attempt.id,
        "new_started_at": farm.now(),
        "new_lease_until": lease_until,
    }
    UPDATE_TRIAL_AND_ATTEMPT_STARTED.execute(connection, row)


def write_result(
    farm: FarmContext,
    session: Session,
    attempt: LockedAttempt,
    to: lifecycle.TrialLifecycle,
    result: dict[str, Any],
    event: Mapping[str, Any],
) -> None:
    """Write an accepted result, its trial's new state, and the event. The caller has locked the
    trial's row."""
    row = {
        **_new_state(attempt.trial_id, to),
        "which_attempt": attempt.id,
        "new_result": result,
        "new_ended_at": farm.now(),
        **event,
    }
    UPDATE_TRIAL_AND_ATTEMPT_ENDED_INSERT_EVENT.execute(session.connection(), row)


def insert_attempt(
    farm: FarmContext, session: Session, device_id: int, trial_id: int, to: lifecycle.TrialLifecycle
) -> str:
    """A new attempt at a trial that becomes dispatched; returns the attempt's id.

    The caller has locked the device's row and the trial's.
    """
    now, attempt_id = farm.now(), uuid.uuid4().hex
    row = {
        **_new_state(trial_id, to),
        "which_attempt": attempt_id,
        "of_trial": trial_id,
        "of_device": device_id,
        "new_number": to.attempt,
        "new_dispatched_at": now,
        "new_lease_until": now + timedelta(seconds=farm.settings.dispatch_s),
    }
    UPDATE_TRIAL_INSERT_ATTEMPT.execute(session.connection(), row)
    return attempt_id
