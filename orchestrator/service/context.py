"""What every use case needs: the ports, filled in by ``orchestrator.wiring`` only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import bindparam, insert
from sqlalchemy.orm import Session

from agent.contract.child_jobs import Referenced, ReferenceJob
from orchestrator.domain import rate_control as rules
from orchestrator.domain.file_inspection import Inspector
from orchestrator.domain.rate_control import Pace
from orchestrator.service import current_actor
from orchestrator.service.ports import BrokerAccess
from orchestrator.settings import Settings
from orchestrator.store import blob_references
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.database import Database
from orchestrator.store.tables import Event

EVENT = (
    insert(Event.__table__)  # type: ignore[arg-type]
    .values(
        at=bindparam("event_at"),
        kind=bindparam("event_kind"),
        subject=bindparam("event_subject"),
        data=bindparam("event_data"),
    )
    .inline()  # its number is not asked back
)


@dataclass
class RateMemory:
    """``pace``: none before the first look. ``room``: for doorbells that nobody's tick rings.
    ``after``: the device whose turn was last. ``witnesses``: by sweep, a trial that was open."""

    pace: Pace | None = None
    looked_at: datetime | None = None
    room: int = rules.FEW
    after: int = 0
    witnesses: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FarmContext:
    """``ring(device, attempt_id)`` rings a device's doorbell; it may be lost, never relied on.

    ``reference`` computes a model's FP32 reference outputs in a child process; ``inspect`` reads
    what people sent, in a confined one. ``doors``: who may hear doorbells, ``None`` where the
    broker has no users. ``look`` sees whether the clock behind ``now`` jumped, and by how many
    seconds. ``memory``: what was seen of the farm.
    """

    settings: Settings
    database: Database
    blobs: FolderBlobs
    ring: Callable[[str, str], None]
    reference: Callable[[ReferenceJob], Referenced]
    now: Callable[[], datetime]
    inspect: Inspector
    doors: BrokerAccess | None = None
    look: Callable[[], float] = lambda: 0.0
    memory: RateMemory = field(default_factory=RateMemory)

    def note(self, session: Session, kind: str, subject: str, **data: object) -> None:
        """Append to the event log, in the transaction of what happened, and on whose behalf."""
        session.connection().execute(EVENT, self.event(kind, subject, **data))

    def event(self, kind: str, subject: str, **data: object) -> dict[str, object]:
        """What ``EVENT`` is executed with, for who writes it with something else."""
        said = {**data, "by": current_actor.present()}
        return {
            "event_at": self.now(),
            "event_kind": kind,
            "event_subject": subject,
            "event_data": said,
        }

    def free(self, digests: Iterable[str]) -> set[str]:
        """Delete those blobs that no row refers to; returns them. After the rows that did are gone
        for good: a transaction that failed would otherwise have lost its blobs."""
        with self.database.transaction() as session:
            return blob_references.free(session, self.blobs, digests)
