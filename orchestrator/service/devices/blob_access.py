"""Which blobs a device may read: those that its own attempts have to fetch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import String, cast, select

from orchestrator.service.context import FarmContext
from orchestrator.store.tables import Attempt, Cell, Trial


def may_read(farm: FarmContext, device_id: int, sha256: str) -> bool:
    """Whether an attempt of the device has to fetch this blob: the model or what a builder made of
    it, the reference outputs, the data set. Blobs named by its results do not count: a device could
    name any."""
    query = (
        select(Cell.request)
        .join(Trial, Trial.cell_id == Cell.id)
        .join(Attempt, Attempt.trial_id == Trial.id)
        .where(Attempt.device_id == device_id)
        # a text search finds the few requests, of thousands, that are worth parsing
        .where(cast(Cell.request, String).contains(sha256, autoescape=True))
    )
    with farm.database.read_session() as session:
        return any(
            sha256 in _blobs_of_request(request) for request in session.scalars(query) if request
        )


def has_uploaded(farm: FarmContext, device_id: int, sha256: str) -> bool:
    """Whether a result of the device names this blob as its samples or its artifact."""
    query = select(Attempt.result).where(
        Attempt.device_id == device_id,
        cast(Attempt.result, String).contains(sha256, autoescape=True),
    )
    with farm.database.read_session() as session:
        return any(
            (result.get(part) or {}).get("sha256") == sha256
            for result in session.scalars(query)
            if result
            for part in ("samples", "built")
        )


def _blobs_of_request(request: dict[str, Any]) -> Iterator[str]:
    for part in ("model", "reference", "dataset"):
        found = request.get(part)
        if found is not None:
            yield found["sha256"]
