"""The ports and adapters that every use case takes; ``orchestrator.wiring`` builds them."""

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

INSERT_EVENT = (
    insert(Event.__table__)  # type: ignore[arg-type]
    .values(
        at=bindparam("event_at"),
        kind=bindparam("event_kind"),
        subject=bindparam("event_subject"),
        data=bindparam("event_data"),
    )
    .inline()  # without RETURNING: the event's id is not needed
)


@dataclass
class RateMemory:
    """What one controller remembers between scheduler rounds; all of it can be lost.

    Attributes:
        pace: heartbeat interval and lease; ``None`` until the first ``rate_control.refresh_pace``.
        refreshed_at: when ``pace`` was computed.
        doorbell_budget: doorbells that heartbeats may still publish before the next round.
        last_device_id: the device that the last round ended with; 0: the round served all.
        open_trials: sweep id → id of a trial of it that was open when last read.
    """

    pace: Pace | None = None
    refreshed_at: datetime | None = None
    doorbell_budget: int = rules.MIN_DOORBELLS
    last_device_id: int = 0
    open_trials: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FarmContext:
    """What every use case needs.

    Attributes:
        publish_doorbell: ``(device, attempt_id)`` tells a device that an attempt waits for it. A
            message may be lost: the attempt's lease then brings it back.
        compute_reference: computes a model's FP32 reference outputs in a child process.
        now: the farm's clock, UTC.
        inspect: reads uploaded files in a confined child process.
        broker_access: users of the broker; ``None`` where the broker has none.
        check_clock: compares ``now`` with its source; returns by how many seconds it jumped.
        rate_memory: state of this controller's rate control.
    """

    settings: Settings
    database: Database
    blobs: FolderBlobs
    publish_doorbell: Callable[[str, str], None]
    compute_reference: Callable[[ReferenceJob], Referenced]
    now: Callable[[], datetime]
    inspect: Inspector
    broker_access: BrokerAccess | None = None
    check_clock: Callable[[], float] = lambda: 0.0
    rate_memory: RateMemory = field(default_factory=RateMemory)

    def record_event(self, session: Session, kind: str, subject: str, **data: object) -> None:
        """Append to the event log in the transaction that makes the change, with the actor."""
        session.connection().execute(INSERT_EVENT, self.event_row(kind, subject, **data))

    def event_row(self, kind: str, subject: str, **data: object) -> dict[str, object]:
        """Parameters of ``INSERT_EVENT``, for callers that execute it with other statements."""
        return {
            "event_at": self.now(),
            "event_kind": kind,
            "event_subject": subject,
            "event_data": {**data, "by": current_actor.get()},
        }

    def free_blobs(self, digests: Iterable[str]) -> set[str]:
        """Delete those blobs that no row refers to; returns their digests.

        Call it after the commit that deleted the rows: a transaction that was rolled back would
        otherwise have lost its blobs.
        """
        with self.database.transaction() as session:
            return blob_references.free_unreferenced(session, self.blobs, digests)
