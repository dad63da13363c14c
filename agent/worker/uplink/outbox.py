"""Finished results on the board's disk, kept until the controller has confirmed them."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_TABLE = """
CREATE TABLE IF NOT EXISTS results (
    attempt_id TEXT PRIMARY KEY,
    result TEXT NOT NULL,
    samples_path TEXT NOT NULL,
    created_s REAL NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    next_s REAL NOT NULL DEFAULT 0,
    outcome TEXT NOT NULL DEFAULT '',
    delivered_s REAL
) STRICT
"""

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0


@dataclass(frozen=True)
class PendingResult:
    """One undelivered result. ``samples_path``: its blob, packed samples or a built artifact."""

    attempt_id: str
    result: str
    samples_path: Path | None
    tries: int


class Outbox:
    """SQLite with a write-ahead log, each commit flushed to the disk. Thread-safe.

    ``keep`` bounds how many *delivered* entries stay, by which a doubled doorbell is recognised; an
    undelivered one is never dropped. ``clock`` is wall time in seconds, valid across restarts.
    """

    def __init__(
        self, path: Path, *, keep: int = 500, clock: Callable[[], float] = time.time
    ) -> None:
        self._keep = keep
        self._clock = clock
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute(_TABLE)
        # After a restart every result is due at once, for the clock may have been changed.
        self._database.execute("UPDATE results SET next_s = 0 WHERE delivered_s IS NULL")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    def put(self, attempt_id: str, result: str, samples_path: Path | None) -> bool:
        """Store a result; on return it survives a power cut. False: the attempt has one already."""
        with self._transaction() as database:
            done = database.execute(
                "INSERT OR IGNORE INTO results (attempt_id, result, samples_path, created_s)"
                " VALUES (?, ?, ?, ?)",
                (attempt_id, result, str(samples_path or ""), self._clock()),
            )
            return done.rowcount == 1

    def knows(self, attempt_id: str) -> bool:
        """Whether a result of this attempt was stored, and is not dropped yet."""
        with self._lock:
            row = self._database.execute(
                "SELECT 1 FROM results WHERE attempt_id = ?", (attempt_id,)
            ).fetchone()
        return row is not None

    def due(self) -> PendingResult | None:
        """The oldest undelivered result that is due now."""
        now = self._clock()
        with self._lock:
            # A wait longer than the longest means that the clock was set back: the result is due.
            row = self._database.execute(
                "SELECT attempt_id, result, samples_path, tries FROM results"
                " WHERE delivered_s IS NULL AND (next_s <= ? OR next_s > ?)"
                " ORDER BY created_s, rowid LIMIT 1",
                (now, now + 2 * LONGEST_WAIT_S),
            ).fetchone()
        if row is None:
            return None
        return PendingResult(row[0], row[1], Path(row[2]) if row[2] else None, row[3])

    def waiting(self) -> int:
        """How many results are undelivered."""
        with self._lock:
            row = self._database.execute(
                "SELECT count(*) FROM results WHERE delivered_s IS NULL"
            ).fetchone()
        return int(row[0])

    def next_due_in_s(self) -> float | None:
        """Seconds until the next undelivered result is due; ``None`` where there is none."""
        with self._lock:
            row = self._database.execute(
                "SELECT min(next_s) FROM results WHERE delivered_s IS NULL"
            ).fetchone()
        if row[0] is None:
            return None
        return min(max(0.0, float(row[0]) - self._clock()), LONGEST_WAIT_S)

    def postpone(self, attempt_id: str) -> float:
        """Record a failed delivery. Returns the wait until the next try in seconds; it doubles with
        each try."""
        with self._transaction() as database:
            (tries,) = database.execute(
                "SELECT tries FROM results WHERE attempt_id = ?", (attempt_id,)
            ).fetchone()
            wait_s = min(FIRST_WAIT_S * 2.0 ** min(tries, 10), LONGEST_WAIT_S)
            database.execute(
                "UPDATE results SET tries = tries + 1, next_s = ? WHERE attempt_id = ?",
                (self._clock() + wait_s, attempt_id),
            )
        return float(wait_s)

    def delivered(self, attempt_id: str, outcome: str) -> None:
        """Record the controller's final answer: ``accepted``, ``superseded``, ``refused`` …

        The oldest delivered entries past ``keep`` are dropped.
        """
        with self._transaction() as database:
            database.execute(
                "UPDATE results SET delivered_s = ?, outcome = ?, samples_path = ''"
                " WHERE attempt_id = ?",
                (self._clock(), outcome, attempt_id),
            )
            database.execute(
                "DELETE FROM results WHERE delivered_s IS NOT NULL AND attempt_id NOT IN"
                " (SELECT attempt_id FROM results WHERE delivered_s IS NOT NULL"
                # by rowid: the clock may have been set back
                "  ORDER BY rowid DESC LIMIT ?)",
                (self._keep,),
            )

    def outcome(self, attempt_id: str) -> str | None:
        """The final answer; empty while there is none, ``None`` for an unknown attempt."""
        with self._lock:
            row = self._database.execute(
                "SELECT outcome FROM results WHERE attempt_id = ?", (attempt_id,)
            ).fetchone()
        return None if row is None else str(row[0])

    def samples_in_use(self) -> set[Path]:
        """Blob files that an undelivered result needs."""
        with self._lock:
            rows = self._database.execute(
                "SELECT samples_path FROM results WHERE delivered_s IS NULL AND samples_path != ''"
            ).fetchall()
        return {Path(row[0]) for row in rows}

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")
