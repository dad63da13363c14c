"""Which blobs the tables refer to, and how one is freed that none does any more.

No transaction can come between the look and the freeing: whoever is about to write a row that
names a blob ``hold``s it first, whoever frees holds everybody else off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, cast, exists, func, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from orchestrator.domain.errors import FarmError
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.health_model import own_blobs
from orchestrator.store.tables import Artifact, Attempt, Base, Cell, Event, Model, Trial

BLOBS_LOCK = 0x626C6F6273  # "blobs": any number that only benchfarm takes


class BlobGone(FarmError):
    """A blob is not here, or was freed a moment ago; sending it again helps."""

    kind = "blob_gone"
    transient = True


@dataclass(frozen=True)
class BlobColumn:
    """Where rows name a blob: the column, within its JSON the path, and what the blob is."""

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
SWEEP_IS_THERE = ~exists(
    select(_later.id).where(
        _later.kind == SWEEP_DELETED, _later.subject == Event.subject, _later.id > Event.id
    )
)
"""Of events on a sweep: it was not deleted since. Its name may be another's by now."""

SAMPLES = BlobColumn(Attempt, Attempt.result, ("samples",), "samples of an attempt")
PLACES = (
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
        SWEEP_IS_THERE,
    ),
)
"""Every place in JSON; that of ``artifacts`` is a column."""


@dataclass(frozen=True)
class BlobReference:
    """``size_bytes``: what the row says that the blob has."""

    sha256: str
    size_bytes: int
    what: str


def references(session: Session) -> Iterator[BlobReference]:
    """Every distinct reference."""
    for sha256, size in session.execute(select(Artifact.sha256, Artifact.size_bytes).distinct()):
        yield BlobReference(sha256, size, "file of a model")
    for place in PLACES:
        named = select(place.sha256, place.size_bytes).where(place.where).distinct()
        # a reference whose blob was pruned keeps its place, with an empty name
        for sha256, size in session.execute(named.where(func.coalesce(place.sha256, "") != "")):
            yield BlobReference(sha256, size, place.what)


def of_sweep(session: Session, sweep_id: int) -> set[str]:
    """Blobs that the rows of a sweep name."""
    trials = select(Trial.id).where(Trial.sweep_id == sweep_id)
    below = {Cell: Cell.sweep_id == sweep_id, Attempt: Attempt.trial_id.in_(trials)}
    return {
        sha256
        for place in PLACES
        if place.owner in below
        for sha256 in session.scalars(select(place.sha256).where(below[place.owner]).distinct())
        if sha256
    }


def hold(session: Session, blobs: FolderBlobs, digests: Iterable[str]) -> None:
    """Nobody frees blobs until this transaction ends: call it before any row but a device's is
    locked, then write what refers to them.

    Raises:
        BlobGone: one of them is not here.
    """
    _lock(session, exclusive=False)
    require_here(blobs, digests)


def require_here(blobs: FolderBlobs, digests: Iterable[str]) -> None:
    """Raises ``BlobGone``. The caller ``hold``s off whoever frees."""
    for sha256 in digests:
        if not blobs.has(sha256):
            raise BlobGone(f"blob {sha256} is not here (any more); upload the blob first")


def free(session: Session, blobs: FolderBlobs, digests: Iterable[str]) -> set[str]:
    """Delete those of ``digests`` that no row refers to and no health check may want; returns them.

    Call it at the start of a transaction of its own: rows that referred to them are gone for good
    by then, and whoever is writing a new reference is waited for.
    """
    candidates = set(digests)
    if not candidates:  # as after most health checks: nobody is held off, no table is read
        return candidates
    _lock(session, exclusive=True)
    unused = candidates - {r.sha256 for r in references(session)} - own_blobs()
    blobs.discard(unused)
    return unused


def _lock(session: Session, *, exclusive: bool) -> None:
    """On SQLite it is enough to begin: a transaction that writes holds all others off."""
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        connection.execute(_EXCLUSIVE if exclusive else _SHARED)


_SHARED = select(func.pg_advisory_xact_lock_shared(BLOBS_LOCK))
_EXCLUSIVE = select(func.pg_advisory_xact_lock(BLOBS_LOCK))
