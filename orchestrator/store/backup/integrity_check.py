"""Is everything there, and as it should be? Every finding is one line."""

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
from orchestrator.store.blob_references import free, references
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.database import Database
from orchestrator.store.health_model import own_blobs
from orchestrator.store.tables import SWEEP, Attempt, Sweep, Trial

MOST_OF_A_KIND = 20
"""Findings of one kind that are listed one by one."""


@dataclass(frozen=True)
class FreedBlobs:
    blobs: int
    size_bytes: int


def findings(
    database: Database, blobs: FolderBlobs, *, deep: bool = False, grace_s: float = 86_400.0
) -> Iterator[str]:
    """What is wrong, in words; a database that can be read in part says so last. Arguments as for
    ``_findings``."""
    try:
        yield from _findings(database, blobs, deep=deep, grace_s=grace_s)
    except DatabaseError as error:
        yield f"the database cannot be read any further: {error.orig}; restore a backup"


def _findings(
    database: Database, blobs: FolderBlobs, *, deep: bool = False, grace_s: float = 86_400.0
) -> Iterator[str]:
    """What is wrong, in words.

    Args:
        deep: hash every blob that is referred to, instead of looking at its size.
        grace_s: files in the blob folder that nothing refers to are left in peace for that long:
            an upload may be under way.
    """
    newest = database.known_revisions()[-1]
    revision = database.revision()
    if revision != newest:
        yield f"the tables are at revision {revision or 'none'}, this benchfarm's at {newest}"
        return
    with database.frozen() as session:
        yield from _sound_file(session)
        for query, words in _ODD:
            yield from _listed(session, query, words)
        wanted: dict[str, tuple[int, str]] = {}
        for found in references(session):
            wanted[found.sha256] = (found.size_bytes, found.what)
        stored = {path.name: path for path in blobs.stored()}
    for sha256, (size, what) in sorted(wanted.items()):
        # freed since the tables were read, by whoever deleted the rows: not lost
        why = _wrong(blobs.place(sha256), sha256, size, deep)
        if why and _still_wanted(database, sha256):
            yield f"blob {sha256} ({what}) {why}"
    unused = sorted(set(stored) - set(wanted) - own_blobs())
    orphans = _older(grace_s, [stored[sha256] for sha256 in unused])
    strays = _older(grace_s, sorted(blobs.strays()))
    for path in orphans[:MOST_OF_A_KIND]:
        yield f"blob {path.name} is used by nothing; --repair frees it"
    for path in strays[:MOST_OF_A_KIND]:
        yield f"{path} is no blob: something was broken off; --repair deletes it"
    for kind in (orphans, strays):
        if len(kind) > MOST_OF_A_KIND:
            yield f"… and {len(kind) - MOST_OF_A_KIND} more of that kind"


def repair(database: Database, blobs: FolderBlobs, *, grace_s: float = 86_400.0) -> FreedBlobs:
    """Delete from the blob folder what nothing refers to and what was broken off, if it is older
    than ``grace_s``. Nothing else."""
    old = _older(grace_s, list(blobs.stored()))
    sizes = {path.name: path.stat().st_size for path in old if path.exists()}
    with database.transaction() as session:
        freed = free(session, blobs, sizes)
    size = sum(sizes[sha256] for sha256 in freed)
    strays = _older(grace_s, list(blobs.strays()))
    for path in strays:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            size += path.lstat().st_size
            path.unlink(missing_ok=True)
    return FreedBlobs(len(freed) + len(strays), size)


def _sound_file(session: Session) -> Iterator[str]:
    """SQLite's own look at its file; PostgreSQL holds what it promises."""
    if session.get_bind().dialect.name != "sqlite":
        return
    for (answer,) in session.execute(text("PRAGMA integrity_check")):
        if answer != "ok":
            yield f"SQLite: {answer}"
    for table, row, parent, _ in session.execute(text("PRAGMA foreign_key_check")):
        yield f"table {table}, row {row}: refers to a row of {parent} that is not there"


def _listed(session: Session, query: Select[Any], words: str) -> Iterator[str]:
    names = session.scalars(query.limit(MOST_OF_A_KIND + 1)).all()
    for name in names[:MOST_OF_A_KIND]:
        yield words.format(name)
    if len(names) > MOST_OF_A_KIND:
        yield "… and more of that kind"


_OPEN = [s.value for s in TrialState if s not in FINAL]
_CURRENT = (Attempt.trial_id == Trial.id) & (Attempt.number == Trial.attempt)
_FINISHED_OPEN = (
    select(Sweep.name)
    .where(Sweep.finished_at.is_not(None))
    .where(select(Trial.id).where(Trial.sweep_id == Sweep.id, Trial.state.in_(_OPEN)).exists())
)
_OPEN_FINISHED = (
    select(Sweep.name)
    .where(Sweep.finished_at.is_(None), Sweep.kind == SWEEP)  # a device's checks never end
    .where(~select(Trial.id).where(Trial.sweep_id == Sweep.id, Trial.state.in_(_OPEN)).exists())
)
_UNKNOWN = select(Trial.id).where(Trial.state.not_in([s.value for s in TrialState]))
_NOT_WITH_A_DEVICE = (
    select(Trial.id)
    .where(Trial.state.in_([s.value for s in OUTSTANDING]))
    .where(~select(Attempt.id).where(_CURRENT, Attempt.ended_at.is_(None)).exists())
)
_NO_RESULT = (
    select(Trial.id)
    .where(Trial.state == TrialState.DONE.value)
    .where(~select(Attempt.id).where(_CURRENT, Attempt.accepted).exists())
)
# a failed trial that was resumed keeps its failure, which was accepted too
_TWICE = (
    select(Attempt.trial_id)
    .where(Attempt.accepted, Attempt.result["status"].as_string() == "ok")
    .group_by(Attempt.trial_id)
    .having(func.count() > 1)
)
_FROM_NOWHERE = (
    select(Attempt.id)
    .join(Trial, Attempt.trial_id == Trial.id)
    .where(Attempt.number > Trial.attempt)
)
_ODD: tuple[tuple[Select[Any], str], ...] = (
    (_FINISHED_OPEN, "sweep {} is finished, yet has trials that are not"),
    (_OPEN_FINISHED, "sweep {} is not finished, yet all its trials are"),
    (_UNKNOWN, "trial {} is in a state that there is not"),
    (_NOT_WITH_A_DEVICE, "trial {} is with its device by its state, yet has no open attempt"),
    (_NO_RESULT, "trial {} is done, yet has no accepted result"),
    (_TWICE, "trial {} has more than one accepted measurement"),
    (_FROM_NOWHERE, "attempt {} is newer than its trial knows of"),
)


def _wrong(path: Path, sha256: str, size: int, deep: bool) -> str:
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


def _still_wanted(database: Database, sha256: str) -> bool:
    with database.frozen() as session:
        return any(r.sha256 == sha256 for r in references(session))


def _older(grace_s: float, paths: list[Path]) -> list[Path]:
    limit = time.time() - grace_s
    found = []
    for path in paths:
        try:
            if path.lstat().st_mtime <= limit:
                found.append(path)
        except FileNotFoundError:
            continue
    return found
