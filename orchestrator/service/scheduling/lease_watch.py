"""When an expired lease means that a board fell silent, and repairs after a jump of the clock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import cast

from sqlalchemy import ColumnElement, Table, select, update

from orchestrator.domain import retry
from orchestrator.service import rate_control
from orchestrator.service.context import FarmContext
from orchestrator.service.farm_clock import JUMP_S
from orchestrator.store.tables import Attempt, Base, Device, Trial

log = logging.getLogger(__name__)

UNWATCHED_LEASE_FRACTION = 0.5
"""Fraction of a lease: after so long without a check this process was frozen, or the database was
unavailable."""


class LeaseWatch:
    """Whether an expired lease means that its board fell silent.

    It does after one whole lease of uninterrupted checks, in which a living board has renewed it.
    After a start, a jump of the clock, or a time without checks it does not: nobody could renew
    leases then either.
    """

    def __init__(self, farm: FarmContext, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._farm, self._monotonic = farm, monotonic
        self._since: float | None = None
        self._last_check, self._leases_counted = 0.0, False
        self._times_corrected = False

    def leases_count(self) -> bool:
        """Whether expired leases count now. Call it once a scheduler round, before ``reclaim``."""
        jumped_s = self._farm.check_clock()
        at, lease_s = self._monotonic(), rate_control.current_pace(self._farm).lease_s
        counts = self._since is not None and at - self._since >= lease_s
        # only where leases counted: slow rounds must not restart the waiting for ever
        unwatched = (
            self._leases_counted and at - self._last_check > UNWATCHED_LEASE_FRACTION * lease_s
        )
        self._last_check = at
        if self._since is None or jumped_s or unwatched:
            self._since, self._times_corrected, counts = at, False, False
        if jumped_s:
            self._record_jump(jumped_s)
        if not self._times_corrected:
            correct_future_times(self._farm)
            self._times_corrected = True
        self._leases_counted = counts
        return counts

    def _record_jump(self, jumped_s: float) -> None:
        way = "forward" if jumped_s > 0 else "back"
        log.warning("the farm's clock jumped %s by %.1f s", way, abs(jumped_s))
        with self._farm.database.transaction() as session:
            self._farm.record_event(session, "clock_jumped", "farm", seconds=round(jumped_s, 1))


def correct_future_times(farm: FarmContext) -> None:
    """Bring times that a fast clock has put too far into the future back to now: they would be
    waited for."""
    now = farm.now()
    lease_s = rate_control.current_pace(farm).lease_s
    longest = timedelta(seconds=max(lease_s, farm.settings.dispatch_s))
    slack = timedelta(seconds=JUMP_S)
    latest_lease = now + longest + slack
    leased = (Attempt.ended_at.is_(None), Attempt.lease_until > latest_lease)
    _update_unlocked_rows(farm, Attempt, leased, lease_until=now + longest)
    latest_retry = now + timedelta(seconds=retry.LONGEST_S) + slack
    _update_unlocked_rows(farm, Trial, (Trial.not_before > latest_retry,), not_before=None)
    _update_unlocked_rows(farm, Device, (Device.seen_at > now + slack,), seen_at=now)
    _update_unlocked_rows(farm, Device, (Device.checked_at > now + slack,), checked_at=now)


def _update_unlocked_rows(
    farm: FarmContext, table: type[Base], which: tuple[ColumnElement[bool], ...], **values: object
) -> None:
    """Update the rows, except those locked by another transaction, which writes a right time."""
    rows = cast(Table, table.__table__)
    with farm.database.read_session() as session:
        if session.scalar(select(rows.c.id).where(*which).limit(1)) is None:
            return
    with farm.database.transaction() as session:
        found = session.scalars(
            select(rows.c.id).where(*which).with_for_update(skip_locked=True)
        ).all()
        for first in range(0, len(found), 500):
            some = rows.c.id.in_(found[first : first + 500])
            session.connection().execute(update(rows).where(some).values(**values))
