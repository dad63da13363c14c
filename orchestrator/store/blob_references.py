"""Which blobs the tables refer to, and how unreferenced ones are deleted.

A lock keeps a transaction from writing a reference between the check and the deletion: writers of
references share it (``share_blobs_lock``), ``free_unreferenced`` takes it exclusively. Its place in
the order of locks is docs/decisions/0010-order-of-locks.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, cast, exists, func, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from orchestrator.domain.errors import FarmError
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.health_model import canary_blobs
from orchestrator.store.tables import Artifact, Attempt, Base, Cell, Event, Model, Trial

BLOBS_LOCK = 0x626C6F6273  # "blobs": an advisory lock, used by nothing else

SELECT_SHARED_BLOBS_LOCK = select(func.pg_advisory_xact_lock_shared(BLOBS_LOCK))
SELECT_EXCLUSIVE_BLOBS_LOCK = select(func.pg_advisory_xact_lock(BLOBS_LOCK))


class BlobGone(FarmError):
    """A blob is not stored, or was just deleted; uploading it again helps."""

    kind = "blob_gone"
    transient = True


@dataclass(frozen=True)
class BlobColumn:
    """A JSON column that names blobs: the path within its JSON, and what the blob is."""

    owner: type[Base]
    column: InstrumentedAttribute[Any]
    path: tuple[str, ...]
    what: str
    where: ColumnElement[bool] = field(default_factory=true)

    @property
    def sha256(self) -> ColumnElement[str]:
        found: ColumnElement[str] = self.column[(*self.path, "sha256")].as_string()
        return found

    @property
    def size_bytes(self) -> ColumnElement[int]:
        return cast(self.column[(*self.path, "size_bytes")].as_string(), BigInteger)


SWEEP_DELETED = "sweep_deleted"
_later = aliased(Event)
SWEEP_NOT_DELETED = ~exists(
    select(_later.id).where(
        _later.kind == SWEEP_DELETED, _later.subject == Event.subject, _later.id > Event.id
    )
)
"""Condition on events of a sweep: it was not deleted since; another may have its name by now."""

SAMPLES = BlobColumn(Attempt, Attempt.result, ("samples",), "samples of an attempt")
BLOB_COLUMNS = (
    SAMPLES,
    BlobColumn(Model, Model.reference, (), "reference outputs of a model"),
    BlobColumn(Model, Model.dataset, (), "data set of a model"),
    BlobColumn(Cell, Cell.request, ("model",), "model of a cell"),
    BlobColumn(Cell, Cell.request, ("reference",), "reference outputs of a cell"),
    BlobColumn(Cell, Cell.request, ("dataset",), "data set of a cell"),
    BlobColumn(Attempt, Attempt.result, ("built",), "what an attempt built"),
    BlobColumn(
        Event,
        Event.data,
        ("report",),
        "last report of a sweep whose samples were pruned",
        SWEEP_NOT_DELETED,
    ),
)
"""Every JSON column that names blobs; ``artifacts.sha256`` is a plain column."""


@dataclass(frozen=True)
class BlobReference:
    """A blob that a row names; ``size_bytes`` as the row has it."""

    sha256: str
    size_bytes: int
    what: str


def references(session: Session) -> Iterator[BlobReference]:
    """Every distinct reference."""
    for sha256, size in session.execute(select(Artifact.sha256, Artifact.size_bytes).distinct()):
        yield BlobReference(sha256, size, "file of a model")
    for place in BLOB_COLUMNS:
        named = select(place.sha256, place.size_bytes).where(place.where).distinct()
        # pruning a blob leaves its reference with an empty digest
        for sha256, size in session.execute(named.where(func.coalesce(place.sha256, "") != "")):
            yield BlobReference(sha256, size, place.what)


def blobs_of_sweep(session: Session, sweep_id: int) -> set[str]:
    """Digests of the blobs that the rows of a sweep name."""
    trials = select(Trial.id).where(Trial.sweep_id == sweep_id)
    below = {Cell: Cell.sweep_id == sweep_id, Attempt: Attempt.trial_id.in_(trials)}
    return {
        sha256
        for place in BLOB_COLUMNS
        if place.owner in below
        for sha256 in session.scalars(select(place.sha256).where(below[place.owner]).distinct())
        if sha256
    }


def share_blobs_lock(session: Session, blobs: FolderBlobs, digests: Iterable[str]) -> None:
    """Keep all blobs from being deleted until this transaction ends; require that these are stored.

    Call it before writing rows that refer to them. Lock order: after the device's row, before any
    sweep's or trial's.

    Raises:
        BlobGone: one of them is not stored.
    """
    _lock_blobs(session, exclusive=False)
    require_stored(blobs, digests)


def lock_blobs_exclusively(session: Session) -> None:
    """Keep others from writing references until this transaction ends."""
    _lock_blobs(session, exclusive=True)


def require_stored(blobs: FolderBlobs, digests: Iterable[str]) -> None:
    """Raises ``BlobGone``. The caller holds the blobs' lock."""
    for sha256 in digests:
        if not blobs.has(sha256):
            raise BlobGone(f"blob {sha256} is not here (any more); upload the blob first")


def free_unreferenced(session: Session, blobs: FolderBlobs, digests: Iterable[str]) -> set[str]:
    """Delete those of ``digests`` that neither a row nor a health check refers to; returns them.

    Takes the blobs' lock exclusively: waits for transactions that write references. Call it at the
    start of a transaction of its own, after the one that deleted the rows has been committed.
    """
    candidates = set(digests)
    if not candidates:  # mostly, after health checks: no lock, no query
        return candidates
    _lock_blobs(session, exclusive=True)
    unused = candidates - {r.sha256 for r in references(session)} - canary_blobs()
    blobs.delete(unused)
    return unused


def _lock_blobs(session: Session, *, exclusive: bool) -> None:
    """On PostgreSQL; on SQLite a transaction that writes excludes all others anyway."""
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        connection.execute(SELECT_EXCLUSIVE_BLOBS_LOCK if exclusive else SELECT_SHARED_BLOBS_LOCK)
