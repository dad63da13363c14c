"""When the deadlines of leases mean something, and what a clock that jumped has left behind."""

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

UNWATCHED = 0.5
"""Of a lease: who did not look for so long was frozen, or the database was away."""


class LeaseWatch:
    """Whether a lease that ran out may be taken for a board that fell silent.

    Only after a whole lease of looking, in which a living board renews: not right after a start, a
    jump of the clock, or a time in which nobody looked, for then nobody could renew either.
    """

    def __init__(self, farm: FarmContext, steady: Callable[[], float] = time.monotonic) -> None:
        self._farm, self._steady = farm, steady
        self._since: float | None = None
        self._last, self._judged = 0.0, False
        self._right = False

    def look(self) -> bool:
        """Once a round, before leases are judged."""
        jumped_s = self._farm.look()
        at, lease_s = self._steady(), rate_control.present(self._farm).lease_s
        judges = self._since is not None and at - self._since >= lease_s
        # who waited just now has waited: rounds that take long must not put it off for ever
        unwatched = self._judged and at - self._last > UNWATCHED * lease_s
        self._last = at
        if self._since is None or jumped_s or unwatched:
            self._since, self._right, judges = at, False, False
        if jumped_s:
            self._tell(jumped_s)
        if not self._right:
            set_right(self._farm)
            self._right = True
        self._judged = judges
        return judges

    def _tell(self, jumped_s: float) -> None:
        way = "forward" if jumped_s > 0 else "back"
        log.warning("the farm's clock jumped %s by %.1f s", way, abs(jumped_s))
        with self._farm.database.transaction() as session:
            self._farm.note(session, "clock_jumped", "farm", seconds=round(jumped_s, 1))


def set_right(farm: FarmContext) -> None:
    """Bring back what a clock that was ahead has put too far off: it would be waited for."""
    now = farm.now()
    lease_s = rate_control.present(farm).lease_s
    longest = timedelta(seconds=max(lease_s, farm.settings.dispatch_s))
    slack = timedelta(seconds=JUMP_S)
    far = now + longest + slack
    leased = (Attempt.ended_at.is_(None), Attempt.lease_until > far)
    _change(farm, Attempt, leased, lease_until=now + longest)
    off = now + timedelta(seconds=retry.LONGEST_S) + slack
    _change(farm, Trial, (Trial.not_before > off,), not_before=None)
    _change(farm, Device, (Device.seen_at > now + slack,), seen_at=now)
    _change(farm, Device, (Device.checked_at > now + slack,), checked_at=now)


def _change(
    farm: FarmContext, table: type[Base], which: tuple[ColumnElement[bool], ...], **values: object
) -> None:
    """Rows that somebody else holds are left to him: he writes what is right now."""
    rows = cast(Table, table.__table__)
    with farm.database.snapshot() as session:
        if session.scalar(select(rows.c.id).where(*which).limit(1)) is None:
            return
    with farm.database.transaction() as session:
        found = session.scalars(
            select(rows.c.id).where(*which).with_for_update(skip_locked=True)
        ).all()
        for first in range(0, len(found), 500):
            some = rows.c.id.in_(found[first : first + 500])
            session.connection().execute(update(rows).where(some).values(**values))
