"""Retention: deleting sweeps and pruning old raw samples, events and sweeps, with their blobs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, delete, func, select, update
from sqlalchemy.orm import Session

from orchestrator.domain.errors import Conflict, FarmError
from orchestrator.report.build import build_report
from orchestrator.service.context import FarmContext
from orchestrator.service.sweeps import report_data
from orchestrator.service.sweeps.progress import find
from orchestrator.service.trials.transitions import lock_sweep
from orchestrator.service.views import DeletedView
from orchestrator.store import blob_references
from orchestrator.store.tables import SWEEP, Attempt, Cell, Event, Sweep, Trial


@dataclass(frozen=True)
class Policy:
    """How long things are kept, samples and sweeps from the sweep's end; ``None``: for ever."""

    samples: timedelta | None = None
    events: timedelta | None = None
    sweeps: timedelta | None = None


@dataclass(frozen=True)
class Pruning:
    """What a policy would delete: names of sweeps, and a number of events."""

    sweeps: tuple[str, ...]
    samples: tuple[str, ...]
    events: int


@dataclass(frozen=True)
class Pruned:
    """What was deleted; ``kept``: a reason for each sweep whose samples could not be."""

    sweeps: tuple[str, ...]
    samples: tuple[str, ...]
    events: int
    freed_blobs: int
    freed_bytes: int
    kept: tuple[str, ...]


def delete_sweep(farm: FarmContext, name: str) -> DeletedView:
    """Delete a sweep with its cells, trials, attempts, and every blob that nothing else uses.

    Raises:
        NotFound: there is no such sweep. Conflict: it runs.
    """
    with farm.database.transaction() as session:
        sweep = lock_sweep(session, find(session, name).id)
        if sweep.finished_at is None:
            raise Conflict(f"sweep {name!r} runs; end it first: `benchfarm sweep cancel {name}`")
        digests = blob_references.blobs_of_sweep(session, sweep.id)
        frozen = report_data.frozen_event(session, sweep)
        if frozen is not None:
            digests.add(frozen.data["report"]["sha256"])
        trials = _delete_rows(session, sweep)
        farm.record_event(session, blob_references.SWEEP_DELETED, name, trials=trials)
    count, size = _free_blobs(farm, digests)
    return DeletedView(name=name, trials=trials, freed_blobs=count, freed_bytes=size)


def _delete_rows(session: Session, sweep: Sweep) -> int:
    """Delete a sweep and its rows; returns how many trials it had."""
    trials = select(Trial.id).where(Trial.sweep_id == sweep.id)
    session.execute(
        delete(Attempt).where(Attempt.trial_id.in_(trials)), execution_options=NO_SESSION_SYNC
    )
    of_sweep = Trial.sweep_id == sweep.id
    session.execute(
        update(Trial).where(of_sweep).values(waits_for=None), execution_options=NO_SESSION_SYNC
    )
    count = session.scalar(select(func.count()).select_from(Trial).where(of_sweep)) or 0
    session.execute(delete(Trial).where(of_sweep), execution_options=NO_SESSION_SYNC)
    session.execute(
        delete(Cell).where(Cell.sweep_id == sweep.id), execution_options=NO_SESSION_SYNC
    )
    session.execute(delete(Sweep).where(Sweep.id == sweep.id), execution_options=NO_SESSION_SYNC)
    return count


NO_SESSION_SYNC = {"synchronize_session": False}
"""Rows that are changed in bulk are not used again in their session."""


def _free_blobs(farm: FarmContext, digests: Collection[str]) -> tuple[int, int]:
    """Delete the blobs that nothing else uses; returns their number and bytes."""
    sizes = {d: farm.blobs.path(d).stat().st_size for d in digests if farm.blobs.has(d)}
    freed = farm.free_blobs(sizes)
    return len(freed), sum(sizes[d] for d in freed)


def preview(farm: FarmContext, policy: Policy) -> Pruning:
    """What ``prune`` would delete now."""
    with farm.database.read_session() as session:
        sweeps = _ended_before(session, _cutoff(farm, policy.sweeps))
        old = _ended_before(session, _cutoff(farm, policy.samples))
        samples = [s for s in old if s not in sweeps and _has_samples(session, s)]
        return Pruning(
            sweeps=tuple(s.name for s in sweeps),
            samples=tuple(s.name for s in samples),
            events=_count_events(session, _cutoff(farm, policy.events)),
        )


def prune(farm: FarmContext, policy: Policy) -> Pruned:
    """Delete what the policy no longer keeps.

    Before a sweep's raw samples are pruned, its report is computed and stored; it is shown from
    then on, with a note.
    """
    plan = preview(farm, policy)
    kept, pruned, deleted = [], [], []
    blobs = size = 0
    for name in plan.sweeps:
        deleted_sweep = delete_sweep(farm, name)
        deleted.append(name)
        blobs, size = blobs + deleted_sweep.freed_blobs, size + deleted_sweep.freed_bytes
    for name in plan.samples:
        try:
            count, freed = prune_samples(farm, name)
        except FarmError as error:
            kept.append(f"{name}: its samples are kept: {error}")
            continue
        pruned.append(name)
        blobs, size = blobs + count, size + freed
    events = _prune_events(farm, _cutoff(farm, policy.events))
    return Pruned(tuple(deleted), tuple(pruned), events, blobs, size, tuple(kept))


def prune_samples(farm: FarmContext, name: str) -> tuple[int, int]:
    """Delete the raw samples of a sweep that has ended; returns number and bytes of the blobs.

    Raises:
        NotFound: no such sweep, or one of its samples is missing.
        Conflict: it runs (again). DamagedSamples: its last report cannot be computed.
    """
    text = build_report(report_data.collect_sweep(farm, name)).model_dump_json().encode()
    report = {"sha256": farm.blobs.put(text), "size_bytes": len(text)}
    with farm.database.transaction() as session:
        blob_references.share_blobs_lock(session, farm.blobs, [str(report["sha256"])])
        sweep = lock_sweep(session, find(session, name).id)
        if sweep.finished_at is None:
            raise Conflict(f"sweep {name!r} runs again")
        digests = set()
        for attempt in session.scalars(_attempts_with_samples(sweep)):
            result = dict(attempt.result or {})
            digests.add(result["samples"]["sha256"])
            # only the digest: count and method of the samples stay true
            attempt.result = {**result, "samples": {**result["samples"], "sha256": ""}}
        farm.record_event(
            session, report_data.SAMPLES_PRUNED, name, report=report, samples=len(digests)
        )
    return _free_blobs(farm, digests)


def _attempts_with_samples(sweep: Sweep) -> Select[Attempt]:
    return (
        select(Attempt)
        .join(Trial, Attempt.trial_id == Trial.id)
        .where(Trial.sweep_id == sweep.id)
        .where(func.coalesce(blob_references.SAMPLES.sha256, "") != "")
    )


def _has_samples(session: Session, sweep: Sweep) -> bool:
    return session.scalar(_attempts_with_samples(sweep).limit(1)) is not None


def _cutoff(farm: FarmContext, age: timedelta | None) -> datetime | None:
    return None if age is None else farm.now() - age


def _ended_before(session: Session, cut: datetime | None) -> list[Sweep]:
    if cut is None:
        return []
    ended = (Sweep.finished_at < cut, Sweep.kind == SWEEP)
    return list(session.scalars(select(Sweep).where(*ended).order_by(Sweep.id)))


def _prunable_events(cut: datetime) -> ColumnElement[bool]:
    """Condition on events: old, and not the one that names a report which is still shown."""
    return (Event.at < cut) & ~(
        (Event.kind == report_data.SAMPLES_PRUNED) & blob_references.SWEEP_NOT_DELETED
    )


def _count_events(session: Session, cut: datetime | None) -> int:
    if cut is None:
        return 0
    return session.scalar(select(func.count()).select_from(Event).where(_prunable_events(cut))) or 0


def _prune_events(farm: FarmContext, cut: datetime | None) -> int:
    """The only place that deletes events; it records an event itself."""
    if cut is None:
        return 0
    with farm.database.transaction() as session:
        count = _count_events(session, cut)
        if count:
            session.execute(
                delete(Event).where(_prunable_events(cut)), execution_options=NO_SESSION_SYNC
            )
            farm.record_event(
                session, "events_pruned", "events", count=count, before=cut.isoformat()
            )
        return count
