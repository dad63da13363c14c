"""An attempt and its trial as rows, read, locked and changed by queries that are written once.

Without the ORM's objects, which cost three times as much: what devices ask is most of a
controller's work.
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
from orchestrator.service.context import EVENT, FarmContext
from orchestrator.service.trials.transitions import SWEEP_LOCK
from orchestrator.store.batched_statements import BatchedStatements
from orchestrator.store.blob_references import BLOBS_LOCK
from orchestrator.store.tables import Attempt, Cell, Device, Sweep, Trial

_attempts, _trials = cast(Table, Attempt.__table__), cast(Table, Trial.__table__)
_MINE = (_attempts.c.id == bindparam("attempt"), _attempts.c.device_id == bindparam("device"))
_OWN = select(_attempts.c.id).where(*_MINE)
_SWEEP = (
    select(Sweep.id, Sweep.name, Sweep.kind, Sweep.attempts)
    .join_from(_attempts, Trial, _attempts.c.trial_id == Trial.id)
    .join(Sweep, Trial.sweep_id == Sweep.id)
    .where(*_MINE)
)
_TAKEN = (
    _SWEEP.add_columns(
        Device.name.label("device_name"),
        Device.enabled,
        Device.health,
        Device.seen_at,
    )
    .join(Device, _attempts.c.device_id == Device.id)
    .with_for_update(of=Device, key_share=True)
)
_held = _TAKEN.subquery()
# the device's row first, whatever is held beside it then: a subquery that locks is never flattened
_HELD = select(
    _held,
    func.pg_advisory_xact_lock_shared(BLOBS_LOCK),
    func.pg_advisory_xact_lock_shared(SWEEP_LOCK, _held.c.id),
)
_FOUND = (
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
    .where(*_MINE)
    .with_for_update(of=Trial)
)
_ASKED = _FOUND.add_columns(Cell.request)
_TRIAL = update(_trials).where(_trials.c.id == bindparam("its_id"))
_ATTEMPT = update(_attempts).where(_attempts.c.id == bindparam("its_id"))
_MOVED = _TRIAL.values(
    state=bindparam("its_state"), attempt=bindparam("its_attempt"), spent=bindparam("its_spent")
)
_THE_ATTEMPT = update(_attempts).where(_attempts.c.id == bindparam("attempt_id"))
_STARTED = BatchedStatements(
    _MOVED,
    _THE_ATTEMPT.values(
        started_at=bindparam("its_started_at"), lease_until=bindparam("its_lease_until")
    ),
)
_ANSWERED = BatchedStatements(
    _MOVED,
    EVENT,
    _THE_ATTEMPT.values(
        result=bindparam("its_result"), ended_at=bindparam("its_ended_at"), accepted=True
    ),
)
_CLAIMED = BatchedStatements(
    _MOVED,
    insert(_attempts)
    .values(
        id=bindparam("attempt_id"),
        trial_id=bindparam("for_trial"),
        device_id=bindparam("for_device"),
        number=bindparam("its_number"),
        dispatched_at=bindparam("rung_at"),
        lease_until=bindparam("its_lease_until"),
        accepted=False,
        note="",
    )
    .inline(),
)


class ClaimingDevice(NamedTuple):
    """What a claim asks of a device, whose row is locked."""

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
        """Raises ``Superseded``."""
        if self.trial.attempt != self.number or self.trial.state not in OUTSTANDING:
            raise Superseded(
                f"attempt {self.number} of trial {self.trial_id} is over: the trial is "
                f"{self.trial.state} and its last attempt is {self.trial.attempt}"
            )


def require_own(connection: Connection, device_id: int, attempt_id: str) -> None:
    """Raises ``UnknownAttempt``."""
    _one(connection, _OWN, device_id, attempt_id)


def sweep_of(session: Session, device_id: int, attempt_id: str) -> Row[Any]:
    """``id``, ``name``, ``kind`` and ``attempts`` of the sweep of a device's attempt, none of which
    ever changes. Raises ``UnknownAttempt``."""
    row: Row[Any] = _one(session.connection(), _SWEEP, device_id, attempt_id)
    return row


def hold_beside_others(
    session: Session, device_id: int, attempt_id: str
) -> tuple[Row[Any], ClaimingDevice]:
    """As ``sweep_of``, and its device, which is held as by ``dispatch.hold``; then the blobs as by
    ``references.hold``; then the sweep, beside others who change a single trial of it and call
    this, against whoever ``trials.lock``s it. Raises ``UnknownAttempt``."""
    connection = session.connection()
    query = _HELD if connection.dialect.name == "postgresql" else _TAKEN
    row: Row[Any] = _one(connection, query, device_id, attempt_id)
    return row, ClaimingDevice(device_id, row.device_name, row.enabled, row.health, row.seen_at)


def found(session: Session, device_id: int, attempt_id: str) -> LockedAttempt:
    """A device's attempt; its trial stays locked. Raises ``UnknownAttempt``."""
    return _found(attempt_id, _one(session.connection(), _FOUND, device_id, attempt_id))


def current(connection: Connection, device_id: int, attempt_id: str) -> LockedAttempt:
    """As ``found``; raises ``Superseded``, too."""
    attempt = _found(attempt_id, _one(connection, _FOUND, device_id, attempt_id))
    attempt.require_current()
    return attempt


def asked(
    connection: Connection, device_id: int, attempt_id: str
) -> tuple[LockedAttempt, dict[str, Any]]:
    """As ``current``, and what its cell asks for."""
    row = _one(connection, _ASKED, device_id, attempt_id)
    attempt = _found(attempt_id, row)
    attempt.require_current()
    return attempt, row.request


def _one(connection: Connection, query: Any, device_id: int, attempt_id: str) -> Any:
    given = {"attempt": attempt_id, "device": device_id}
    row = connection.execute(query, given).one_or_none()
    if row is None:
        raise UnknownAttempt(f"this device has no attempt {attempt_id!r}")
    return row


def _found(attempt_id: str, row: Any) -> LockedAttempt:
    trial = lifecycle.TrialLifecycle(
        str(row.trial_id), TrialState(row.state), row.attempt, row.spent
    )
    answered = row.result is not None
    return LockedAttempt(
        attempt_id, row.trial_id, row.cell_id, row.number, row.note, answered, row.build_key, trial
    )


def move(session: Session, trial_id: int, to: lifecycle.TrialLifecycle, **more: Any) -> None:
    """Write to a trial's row what the domain decided, and what follows from it."""
    given = {"state": to.state.value, "attempt": to.attempt, "spent": to.spent, **more}
    session.connection().execute(_TRIAL, {"its_id": trial_id, **given})


def change(connection: Connection, attempt_id: str, values: Mapping[str, Any]) -> None:
    connection.execute(_ATTEMPT, {"its_id": attempt_id, **values})


def _moved(trial_id: int, to: lifecycle.TrialLifecycle) -> dict[str, Any]:
    return {
        "its_id": trial_id,
        "its_state": to.state.value,
        "its_attempt": to.attempt,
        "its_spent": to.spent,
    }


def begin(
    farm: FarmContext, connection: Connection, attempt: LockedAttempt, until: datetime
) -> None:
    """Its trial runs from now on, leased ``until`` then."""
    given = {"attempt_id": attempt.id, "its_started_at": farm.now(), "its_lease_until": until}
    to = attempt.trial.to(TrialState.RUNNING)
    _STARTED.execute(connection, {**_moved(attempt.trial_id, to), **given})


def answer(
    farm: FarmContext,
    session: Session,
    attempt: LockedAttempt,
    to: lifecycle.TrialLifecycle,
    result: dict[str, Any],
    event: Mapping[str, Any],
) -> None:
    """Write a result that counts, where it takes the trial, and an event that says so."""
    given = {"attempt_id": attempt.id, "its_result": result, "its_ended_at": farm.now()}
    row = {**_moved(attempt.trial_id, to), **given, **event}
    _ANSWERED.execute(session.connection(), row)


def add(
    farm: FarmContext, session: Session, device_id: int, trial_id: int, to: lifecycle.TrialLifecycle
) -> str:
    """A new attempt at a trial that goes ``to`` dispatched, rung for now; its id."""
    now, attempt_id = farm.now(), uuid.uuid4().hex
    row = {
        **_moved(trial_id, to),
        "attempt_id": attempt_id,
        "for_trial": trial_id,
        "for_device": device_id,
        "its_number": to.attempt,
        "rung_at": now,
        "its_lease_until": now + timedelta(seconds=farm.settings.dispatch_s),
    }
    _CLAIMED.execute(session.connection(), row)
    return attempt_id
