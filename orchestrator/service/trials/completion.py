"""Closing a sweep after the commit of its last plain result, by reading one row.

Plain results share the sweep's lock, so the transaction of the last one cannot know that it is the
last. Whether a trial is still open is read after the commit instead, and only where the device goes
on with another sweep or with none. Where two last results are committed at once, both read, and the
later one sees both. A controller that dies between the commit and this leaves the sweep to
``finish_forgotten_sweeps``.
"""

from __future__ import annotations

import contextlib

from sqlalchemy import bindparam, func, select

from orchestrator.domain.errors import Conflict
from orchestrator.service.context import FarmContext
from orchestrator.service.trials.transitions import IS_OPEN, finish_sweep_if_done, lock_sweep
from orchestrator.store.tables import SWEEP, Sweep, Trial

# None of these lock. The open trial is chosen at random: in id order it would be the next one to
# end, and the table would be searched anew after each.
SELECT_ANY_OPEN_TRIAL = (
    select(Trial.id).where(Trial.sweep_id == bindparam("sweep"), IS_OPEN).order_by(func.random())
).limit(1)
SELECT_TRIAL_IF_OPEN = select(Trial.id).where(
    Trial.id == bindparam("trial"), Trial.sweep_id == bindparam("sweep"), IS_OPEN
)
SELECT_UNFINISHED_SWEEPS = select(Sweep.id).where(Sweep.finished_at.is_(None), Sweep.kind == SWEEP)

MAX_REMEMBERED_TRIALS = 1000


def finish_sweep_after_commit(farm: FarmContext, sweep_id: int) -> None:
    """Close a sweep that has no open trial. Locks the sweep, and only where it is to be closed.

    An open trial is remembered and read first the next time: while it is open, nothing else need
    be read.
    """
    open_trials = farm.rate_memory.open_trials
    remembered = open_trials.get(sweep_id)
    with farm.database.read_connection() as connection:
        if remembered is not None:
            parameters = {"trial": remembered, "sweep": sweep_id}
            if connection.execute(SELECT_TRIAL_IF_OPEN, parameters).first() is not None:
                return
        found = connection.execute(SELECT_ANY_OPEN_TRIAL, {"sweep": sweep_id}).scalar()
    if found is not None:
        if len(open_trials) >= MAX_REMEMBERED_TRIALS:
            open_trials.clear()
        open_trials[sweep_id] = found
        return
    open_trials.pop(sweep_id, None)
    # Conflict: the sweep was deleted meanwhile
    with contextlib.suppress(Conflict), farm.database.transaction() as session:
        lock_sweep(session, sweep_id)
        finish_sweep_if_done(farm, session, sweep_id)


def finish_forgotten_sweeps(farm: FarmContext) -> None:
    """Close sweeps whose controller died after the commit of their last result."""
    with farm.database.read_connection() as connection:
        unfinished = connection.execute(SELECT_UNFINISHED_SWEEPS).scalars().all()
    for sweep_id in unfinished:
        finish_sweep_after_commit(farm, sweep_id)
