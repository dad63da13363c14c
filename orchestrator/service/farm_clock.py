"""The farm's time: the same for every controller, and steady while their machines' clocks jump."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from orchestrator.store.database import AWAY, Database

JUMP_S = 1.0
"""What a clock is off by after it was set; what is less is followed, and nobody is told."""
FINE_S = 0.05
"""What is less than this, or than the time that asking took, is no difference at all."""


class FarmClock:
    """``now`` goes on by the monotonic clock from what ``source`` said at the last ``look``."""

    def __init__(
        self, source: Callable[[], datetime], steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._source, self._steady = source, steady
        self._anchor = (datetime.now(UTC), steady())
        with suppress(*AWAY):  # else the next look tells
            self.look()

    def now(self) -> datetime:
        wall, at = self._anchor
        return wall + timedelta(seconds=self._steady() - at)

    def look(self) -> float:
        """Ask the source, and follow it; the seconds by which it jumped, 0 where it did not.
        Raises what the source raises."""
        before = self._steady()
        said = self._source()
        after = self._steady()
        off_s = (said - self.now()).total_seconds() + (after - before) / 2
        if abs(off_s) > max(FINE_S, after - before):
            self._anchor = (said, (before + after) / 2)
        return off_s if abs(off_s) > JUMP_S + after - before else 0.0


def source_of(database: Database) -> Callable[[], datetime]:
    """PostgreSQL's own clock, which controllers side by side agree on, on whatever machines they
    are; beside SQLite, this machine's."""
    if database.engine.dialect.name != "postgresql":
        return lambda: datetime.now(UTC)

    def ask() -> datetime:
        with database.look() as connection:
            said: datetime = connection.execute(_SAID).scalar_one()
        return said.astimezone(UTC)

    return ask


_SAID = select(func.clock_timestamp())
