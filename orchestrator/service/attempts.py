"""An attempt and its trial as rows, read, locked and changed by queries that are written once.

Without the ORM's objects, which cost three times as much: what devices ask is most of a
controller's work.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import Row, Table, bindparam, insert, select, update
from sqlalchemy.orm import Session

from orchestrator.domain import trial as lifecycle
from orchestrator.domain.errors import Superseded, UnknownAttempt
from orchestrator.domain.trial import OUTSTANDING, TrialState
from orchestrator.service.farm import Farm
from orchestrator.store.models import Attempt, Cell, Sweep, Trial

_attempts, _trials = cast(Table, Attempt.__table__), cast(Table, Trial.__table__)
_MINE = (_attempts.c.id == bindparam("attempt"), _attempts.c.device_id == bindparam("device"))
_SWEEP = (
    select(Sweep.id, Sweep.name, Sweep.kind, Sweep.attempts)
    .join_from(_attempts, Trial, _attempts.c.trial_id == Trial.id)
    .join(Sweep, Trial.sweep_id == Sweep.id)
    .where(*_MINE)
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
_TRIAL = update(_trials).where(_trials.c.id == bindparam("its_id"))
_ATTEMPT = update(_attempts).where(_attempts.c.id == bindparam("its_id"))
_NEW = insert(_attempts)


@dataclass(frozen=True)
class Found:
    """An attempt as it was read when its trial was locked. ``answered``: it has a result."""

    id: str
    trial_id: int
    cell_id: int
    number: int
    note: str
    answered: bool
    build_key: str
    trial: lifecycle.Trial

    def require_current(self) -> None:
        """Raises ``Superseded``."""
        if self.trial.attempt != self.number or self.trial.state not in OUTSTANDING:
            raise Superseded(
                f"attempt {self.number} of trial {self.trial_id} is over: the trial is "
                f"{self.trial.state} and its last attempt is {self.trial.attempt}"
            )


def sweep_of(session: Session, device_id: int, attempt_id: str) -> Row[int, str, str, int]:
    """``id``, ``name``, ``kind`` and ``attempts`` of the sweep of a device's attempt, none of which
    ever changes. Raises ``UnknownAttempt``."""
    row: Row[int, str, str, int] = _one(session, _SWEEP, device_id, attempt_id)
    return row


def found(session: Session, device_id: int, attempt_id: str) -> Found:
    """A device's attempt; its trial stays locked. Raises ``UnknownAttempt``."""
    row = _one(session, _FOUND, device_id, attempt_id)
    trial = lifecycle.Trial(str(row.trial_id), TrialState(row.state), row.attempt, row.spent)
    answered = row.result is not None
    return Found(
        attempt_id, row.trial_id, row.cell_id, row.number, row.note, answered, row.build_key, trial
    )


def current(session: Session, device_id: int, attempt_id: str) -> Found:
    """As ``found``; raises ``Superseded``, too."""
    attempt = found(session, device_id, attempt_id)
    attempt.require_current()
    return attempt


def _one(session: Session, query: Any, device_id: int, attempt_id: str) -> Any:
    given = {"attempt": attempt_id, "device": device_id}
    row = session.connection().execute(query, given).one_or_none()
    if row is None:
        raise UnknownAttempt(f"this device has no attempt {attempt_id!r}")
    return row


def move(session: Session, trial_id: int, to: lifecycle.Trial, **more: Any) -> None:
    """Write to a trial's row what the domain decided, and what follows from it."""
    given = {"state": to.state.value, "attempt": to.attempt, "spent": to.spent, **more}
    session.connection().execute(_TRIAL, {"its_id": trial_id, **given})


def change(session: Session, attempt_id: str, values: Mapping[str, Any]) -> None:
    session.connection().execute(_ATTEMPT, {"its_id": attempt_id, **values})


def add(farm: Farm, session: Session, device_id: int, trial_id: int, number: int) -> str:
    """A new attempt, rung for now; its id."""
    now, attempt_id = farm.now(), uuid.uuid4().hex
    row = {
        "id": attempt_id,
        "trial_id": trial_id,
        "device_id": device_id,
        "number": number,
        "dispatched_at": now,
        "lease_until": now + timedelta(seconds=farm.settings.dispatch_s),
    }
    session.connection().execute(_NEW, row)
    return attempt_id
