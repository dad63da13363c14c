"""Checks that database and blobs are complete and consistent; every finding is one line."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Select, func, select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from orchestrator.domain.trial import FINAL, OUTSTANDING, TrialState
from orchestrator.store.blob_references import free_unreferenced, references
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.database import Database
from orchestrator.store.health_model import canary_blobs
from orchestrator.store.tables import SWEEP, Attempt, Sweep, Trial

MAX_FINDINGS_PER_KIND = 20
"""More findings of one kind are only counted."""


@dataclass(frozen=True)
class FreedBlobs:
    blobs: int
    size_bytes: int


def findings(
    database: Database, blobs: FolderBlobs, *, deep: bool = False, grace_s: float = 86_400.0
) -> Iterator[str]:
    """What is wrong, in words, as ``_findings``; an unreadable database is the last finding."""
    try:
        yield from _findings(database, blobs, deep=deep, grace_s=grace_s)
    except DatabaseError as error:
        yield f"the database cannot be read any further: {error.orig}; restore a backup"


def _findings(
    database: Database, blobs: FolderBlobs, *, deep: bool = False, grace_s: float = 86_400.0
) -> Iterator[str]:
    """What is wrong, in words.

    Args:
        deep: hash every blob that is referred to; else only its size is compared.
        grace_s: unreferenced files in the blob folder that are younger are no finding: an upload
            may be under way.
    """
    newest = database.known_revisions()[-1]
    revision = database.revision()
    if revision != newest:
        yield f"the tables are at revision {revision or 'none'}, this benchfarm's at {newest}"
        return
    with database.repeatable_read() as session:
        yield from _sqlite_integrity(session)
        for query, words in _INCONSISTENCIES:
            yield from _rows_found(session, query, words)
        wanted: dict[str, tuple[int, str]] = {}
        for found in references(session):
            wanted[found.sha256] = (found.size_bytes, found.what)
        stored = {path.name: path for path in blobs.stored()}
    for sha256, (size, what) in sorted(wanted.items()):
        # not a finding where its rows were deleted since the tables were read
        why = _blob_fault(blobs.location(sha256), sha256, size, deep)
        if why and _is_still_referenced(database, sha256):
            yield f"blob {sha256} ({what}) {why}"
    unused = sorted(set(stored) - set(wanted) - canary_blobs())
    orphans = _older_than(grace_s, [stored[sha256] for sha256 in unused])
    strays = _older_than(grace_s, sorted(blobs.strays()))
    for path in orphans[:MAX_FINDINGS_PER_KIND]:
        yield f"blob {path.name} is used by nothing; --repair frees it"
    for path in strays[:MAX_FINDINGS_PER_KIND]:
        yield f"{path} is no blob: something was broken off; --repair deletes it"
    for kind in (orphans, strays):
        if len(kind) > MAX_FINDINGS_PER_KIND:
            yield f"… and {len(kind) - MAX_FINDINGS_PER_KIND} more of that kind"


def repair(database: Database, blobs: FolderBlobs, *, grace_s: float = 86_400.0) -> FreedBlobs:
    """Delete unreferenced blobs and temporary files that are older than ``grace_s``, nothing
    else."""
    old = _older_than(grace_s, list(blobs.stored()))
    sizes = {path.name: path.stat().st_size for path in old if path.exists()}
    with database.transaction() as session:
        freed = free_unreferenced(session, blobs, sizes)
    size = sum(sizes[sha256] for sha256 in freed)
    strays = _older_than(grace_s, list(blobs.strays()))
    for path in strays:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            size += path.lstat().st_size
            path.unlink(missing_ok=True)
    return FreedBlobs(len(freed) + len(strays), size)


def _sqlite_integrity(session: Session) -> Iterator[str]:
    """SQLite's own check of its file and foreign keys; PostgreSQL enforces both."""
    if session.get_bind().dialect.name != "sqlite":
        return
    for (answer,) in session.execute(text("PRAGMA integrity_check")):
        if answer != "ok":
            yield f"SQLite: {answer}"
    for table, row, parent, _ in session.execute(text("PRAGMA foreign_key_check")):
        yield f"table {table}, row {row}: refers to a row of {parent} that is not there"


def _rows_found(session: Session, query: Select[Any], words: str) -> Iterator[str]:
    names = session.scalars(query.limit(MAX_FINDINGS_PER_KIND + 1)).all()
    for name in names[:MAX_FINDINGS_PER_KIND]:
        yield words.format(name)
    if len(names) > MAX_FINDINGS_PER_KIND:
        yield "… and more of that kind"


_OPEN_STATES = [s.value for s in TrialState if s not in FINAL]
_IS_LAST_ATTEMPT = (Attempt.trial_id == Trial.id) & (Attempt.number == Trial.attempt)
SELECT_FINISHED_SWEEP_WITH_OPEN_TRIALS = (
    select(Sweep.name)
    .where(Sweep.finished_at.is_not(None))
    .where(
        select(Trial.id).where(Trial.sweep_id == Sweep.id, Trial.state.in_(_OPEN_STATES)).exists()
    )
)
SELECT_OPEN_SWEEP_WITHOUT_OPEN_TRIALS = (
    select(Sweep.name)
    .where(Sweep.finished_at.is_(None), Sweep.kind == SWEEP)  # a device's hidden sweep stays open
    .where(
        ~select(Trial.id).where(Trial.sweep_id == Sweep.id, Trial.state.in_(_OPEN_STATES)).exists()
    )
)
SELECT_TRIAL_IN_UNKNOWN_STATE = select(Trial.id).where(
    Trial.state.not_in([s.value for s in TrialState])
)
SELECT_OUTSTANDING_TRIAL_WITHOUT_ATTEMPT = (
    select(Trial.id)
    .where(Trial.state.in_([s.value for s in OUTSTANDING]))
    .where(~select(Attempt.id).where(_IS_LAST_ATTEMPT, Attempt.ended_at.is_(None)).exists())
)
SELECT_DONE_TRIAL_WITHOUT_RESULT = (
    select(Trial.id)
    .where(Trial.state == TrialState.DONE.value)
    .where(~select(Attempt.id).where(_IS_LAST_ATTEMPT, Attempt.accepted).exists())
)
# results of status ok only: a failed trial that was resumed keeps its accepted failure
SELECT_TRIAL_WITH_TWO_RESULTS = (
    select(Attempt.trial_id)
    .where(Attempt.accepted, Attempt.result["status"].as_string() == "ok")
    .group_by(Attempt.trial_id)
    .having(func.count() > 1)
)
SELECT_ATTEMPT_NEWER_THAN_TRIAL = (
    select(Attempt.id)
    .join(Trial, Attempt.trial_id == Trial.id)
    .where(Attempt.number > Trial.attempt)
)
_INCONSISTENCIES: tuple[tuple[Select[Any], str], ...] = (
    (SELECT_FINISHED_SWEEP_WITH_OPEN_TRIALS, "sweep {} is finished, yet has trials that are not"),
    (SELECT_OPEN_SWEEP_WITHOUT_OPEN_TRIALS, "sweep {} is not finished, yet all its trials are"),
    (SELECT_TRIAL_IN_UNKNOWN_STATE, "trial {} is in a state that there is not"),
    (
        SELECT_OUTSTANDING_TRIAL_WITHOUT_ATTEMPT,
        "trial {} is with its device by its state, yet has no open attempt",
    ),
    (SELECT_DONE_TRIAL_WITHOUT_RESULT, "trial {} is done, yet has no accepted result"),
    (SELECT_TRIAL_WITH_TWO_RESULTS, "trial {} has more than one accepted measurement"),
    (SELECT_ATTEMPT_NEWER_THAN_TRIAL, "attempt {} is newer than its trial knows of"),
)


def _blob_fault(path: Path, sha256: str, size: int, deep: bool) -> str:
    try:
        found = path.stat().st_size
        if found != size:
            return f"has {found} bytes instead of {size}"
        if deep:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    return "is damaged: its bytes have another hash"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""


def _is_still_referenced(database: Database, sha256: str) -> bool:
    with database.repeatable_read() as session:
        return any(r.sha256 == sha256 for r in references(session))


def _older_than(grace_s: float, paths: list[Path]) -> list[Path]:
    limit = time.time() - grace_s
    found = []
    for path in paths:
        try:
            if path.lstat().st_mtime <= limit:
                found.append(path)
        except FileNotFoundError:
            continue
    return found
