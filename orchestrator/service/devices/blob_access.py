"""Which blobs a device may read: those that its own attempts are, or were, about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import String, cast, select

from orchestrator.service.context import FarmContext
from orchestrator.store.tables import Attempt, Cell, Trial


def may_read(farm: FarmContext, device_id: int, sha256: str) -> bool:
    """Whether an attempt that was given to the device has to fetch this blob: its model, what a
    builder made of it, the reference outputs, the data set. Not what results name: a result is the
    device's own word."""
    query = (
        select(Cell.request)
        .join(Trial, Trial.cell_id == Cell.id)
        .join(Attempt, Attempt.trial_id == Trial.id)
        .where(Attempt.device_id == device_id)
        # the text of it finds the few, of thousands, that are worth reading
        .where(cast(Cell.request, String).contains(sha256, autoescape=True))
    )
    with farm.database.snapshot() as session:
        return any(sha256 in _named(request) for request in session.scalars(query) if request)


def has_given(farm: FarmContext, device_id: int, sha256: str) -> bool:
    """Whether a result of the device names this blob as what it uploaded."""
    query = select(Attempt.result).where(
        Attempt.device_id == device_id,
        cast(Attempt.result, String).contains(sha256, autoescape=True),
    )
    with farm.database.snapshot() as session:
        return any(
            (result.get(part) or {}).get("sha256") == sha256
            for result in session.scalars(query)
            if result
            for part in ("samples", "built")
        )


def _named(request: dict[str, Any]) -> Iterator[str]:
    for part in ("model", "reference", "dataset"):
        found = request.get(part)
        if found is not None:
            yield found["sha256"]
