"""Seeing that a sweep's last trial has ended, at the cost of one row.

Asked after the commit of a result, of which only those may be the last whose device goes on with
another sweep, or with none. Two last results at once are both asked after: the later one sees
both. Whoever dies between its commit and this leaves the sweep to ``close_forgotten``.
"""

from __future__ import annotations

import contextlib

from sqlalchemy import bindparam, func, select

from orchestrator.domain.errors import Conflict
from orchestrator.service.context import FarmContext
from orchestrator.service.trials.transitions import OPEN, finish_if_done, lock
from orchestrator.store.tables import SWEEP, Sweep, Trial

_ANY_OPEN = (
    # by chance: which of them ends last is not known, and in their order the next to end would be
    # found each time, and the table be read once for each
    select(Trial.id).where(Trial.sweep_id == bindparam("sweep"), OPEN).order_by(func.random())
).limit(1)
_STILL_OPEN = select(Trial.id).where(
    Trial.id == bindparam("trial"), Trial.sweep_id == bindparam("sweep"), OPEN
)
_UNFINISHED = select(Sweep.id).where(Sweep.finished_at.is_(None), Sweep.kind == SWEEP)
MOST_WITNESSES = 1000


def close_if_done(farm: FarmContext, sweep_id: int) -> None:
    """Close a sweep whose every trial is in a final state.

    A trial that was seen open is remembered, and looked at first: while it is, nothing else need
    be read.
    """
    witness = farm.memory.witnesses.get(sweep_id)
    with farm.database.look() as connection:
        if witness is not None:
            given = {"trial": witness, "sweep": sweep_id}
            if connection.execute(_STILL_OPEN, given).first() is not None:
                return
        found = connection.execute(_ANY_OPEN, {"sweep": sweep_id}).scalar()
    if found is not None:
        if len(farm.memory.witnesses) >= MOST_WITNESSES:
            farm.memory.witnesses.clear()
        farm.memory.witnesses[sweep_id] = found
        return
    farm.memory.witnesses.pop(sweep_id, None)
    with contextlib.suppress(Conflict), farm.database.transaction() as session:  # just deleted
        lock(session, sweep_id)
        finish_if_done(farm, session, sweep_id)


def close_forgotten(farm: FarmContext) -> None:
    """Close what a controller left open that died after a last result's commit."""
    with farm.database.look() as connection:
        unfinished = connection.execute(_UNFINISHED).scalars().all()
    for sweep_id in unfinished:
        close_if_done(farm, sweep_id)
