"""The farm's time: one for all controllers, unaffected by jumps of their machines' clocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from orchestrator.store.database import DATABASE_UNAVAILABLE, Database

JUMP_S = 1.0
"""A larger difference is a jump, which is reported; a smaller one is followed silently."""
TOLERANCE_S = 0.05
"""A smaller difference, or one shorter than the query took, is ignored."""


class FarmClock:
    """``now``: the source's time at the last ``synchronise`` plus the monotonic time since."""

    def __init__(
        self, source: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._source, self._monotonic = source, monotonic
        self._anchor = (datetime.now(UTC), monotonic())
        with suppress(*DATABASE_UNAVAILABLE):  # the next call tries again
            self.synchronise()

    def now(self) -> datetime:
        wall, at = self._anchor
        return wall + timedelta(seconds=self._monotonic() - at)

    def synchronise(self) -> float:
        """Read the source and follow it; returns the seconds by which it jumped, else 0.

        Raises what the source raises.
        """
        before = self._monotonic()
        source_time = self._source()
        after = self._monotonic()
        off_s = (source_time - self.now()).total_seconds() + (after - before) / 2
        if abs(off_s) > max(TOLERANCE_S, after - before):
            self._anchor = (source_time, (before + after) / 2)
        return off_s if abs(off_s) > JUMP_S + after - before else 0.0


def time_source(database: Database) -> Callable[[], datetime]:
    """The clock that all controllers of a farm share: PostgreSQL's; with SQLite, this machine's."""
    if database.engine.dialect.name != "postgresql":
        return lambda: datetime.now(UTC)

    def database_time() -> datetime:
        with database.read_connection() as connection:
            found: datetime = connection.execute(SELECT_CLOCK).scalar_one()
        return found.astimezone(UTC)

    return database_time


SELECT_CLOCK = select(func.clock_timestamp())
