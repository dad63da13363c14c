"""Letting go of what is old: raw samples, events, whole sweeps, and blobs that only they used."""

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
from orchestrator.service.trials.transitions import lock
from orchestrator.service.views import DeletedView
from orchestrator.store import blob_references
from orchestrator.store.tables import SWEEP, Attempt, Cell, Event, Sweep, Trial


@dataclass(frozen=True)
class Policy:
    """How long what is kept, counted from a sweep's end; ``None``: for ever."""

    samples: timedelta | None = None
    events: timedelta | None = None
    sweeps: timedelta | None = None


@dataclass(frozen=True)
class Pruning:
    """What a policy would take: names of sweeps, and a number of events."""

    sweeps: tuple[str, ...]
    samples: tuple[str, ...]
    events: int


@dataclass(frozen=True)
class Pruned:
    """What was taken; ``kept`` says of each sweep that could not be why not."""

    sweeps: tuple[str, ...]
    samples: tuple[str, ...]
    events: int
    freed_blobs: int
    freed_bytes: int
    kept: tuple[str, ...]


def delete_sweep(farm: FarmContext, name: str) -> DeletedView:
    """Forget a sweep: its cells, trials, attempts, and every blob that nothing else uses.

    Raises:
        NotFound: there is no such sweep. Conflict: it runs.
    """
    with farm.database.transaction() as session:
        sweep = lock(session, find(session, name).id)
        if sweep.finished_at is None:
            raise Conflict(f"sweep {name!r} runs; end it first: `benchfarm sweep cancel {name}`")
        digests = blob_references.of_sweep(session, sweep.id)
        frozen = report_data.frozen_event(session, sweep)
        if frozen is not None:
            digests.add(frozen.data["report"]["sha256"])
        trials = _delete_rows(session, sweep)
        farm.note(session, blob_references.SWEEP_DELETED, name, trials=trials)
    count, size = _free(farm, digests)
    return DeletedView(name=name, trials=trials, freed_blobs=count, freed_bytes=size)


def _delete_rows(session: Session, sweep: Sweep) -> int:
    """Everything below a sweep, and itself; returns how many trials it had."""
    trials = select(Trial.id).where(Trial.sweep_id == sweep.id)
    session.execute(delete(Attempt).where(Attempt.trial_id.in_(trials)), execution_options=PLAIN)
    mine = Trial.sweep_id == sweep.id
    session.execute(update(Trial).where(mine).values(waits_for=None), execution_options=PLAIN)
    count = session.scalar(select(func.count()).select_from(Trial).where(mine)) or 0
    session.execute(delete(Trial).where(mine), execution_options=PLAIN)
    session.execute(delete(Cell).where(Cell.sweep_id == sweep.id), execution_options=PLAIN)
    session.execute(delete(Sweep).where(Sweep.id == sweep.id), execution_options=PLAIN)
    return count


PLAIN = {"synchronize_session": False}
"""Nothing that is deleted in bulk is looked at again in its session."""


def _free(farm: FarmContext, digests: Collection[str]) -> tuple[int, int]:
    """Number and bytes of those that nothing uses any more."""
    sizes = {d: farm.blobs.path(d).stat().st_size for d in digests if farm.blobs.has(d)}
    freed = farm.free(sizes)
    return len(freed), sum(sizes[d] for d in freed)


def due(farm: FarmContext, policy: Policy) -> Pruning:
    """What ``prune`` would take now."""
    with farm.database.snapshot() as session:
        sweeps = _ended_before(session, _cut(farm, policy.sweeps))
        old = _ended_before(session, _cut(farm, policy.samples))
        samples = [s for s in old if s not in sweeps and _has_samples(session, s)]
        return Pruning(
            sweeps=tuple(s.name for s in sweeps),
            samples=tuple(s.name for s in samples),
            events=_count_events(session, _cut(farm, policy.events)),
        )


def prune(farm: FarmContext, policy: Policy) -> Pruned:
    """Take what the policy no longer keeps. Before a sweep loses its raw samples its report is
    computed once more and kept, and shown from then on, saying so."""
    plan = due(farm, policy)
    kept, pruned, deleted = [], [], []
    blobs = size = 0
    for name in plan.sweeps:
        gone = delete_sweep(farm, name)
        deleted.append(name)
        blobs, size = blobs + gone.freed_blobs, size + gone.freed_bytes
    for name in plan.samples:
        try:
            count, freed = prune_samples(farm, name)
        except FarmError as error:
            kept.append(f"{name}: its samples are kept: {error}")
            continue
        pruned.append(name)
        blobs, size = blobs + count, size + freed
    events = _prune_events(farm, _cut(farm, policy.events))
    return Pruned(tuple(deleted), tuple(pruned), events, blobs, size, tuple(kept))


def prune_samples(farm: FarmContext, name: str) -> tuple[int, int]:
    """Free the raw samples of a sweep that has ended; number and bytes of the blobs.

    Raises:
        NotFound: no such sweep, or one of its samples is missing.
        Conflict: it runs (again). DamagedSamples: its last report cannot be computed.
    """
    text = build_report(report_data.collect(farm, name)).model_dump_json().encode()
    report = {"sha256": farm.blobs.put(text), "size_bytes": len(text)}
    with farm.database.transaction() as session:
        blob_references.hold(session, farm.blobs, [str(report["sha256"])])
        sweep = lock(session, find(session, name).id)
        if sweep.finished_at is None:
            raise Conflict(f"sweep {name!r} runs again")
        digests = set()
        for attempt in session.scalars(_with_samples(sweep)):
            result = dict(attempt.result or {})
            digests.add(result["samples"]["sha256"])
            # the name alone is taken: how many there were, and how they were had, is still true
            attempt.result = {**result, "samples": {**result["samples"], "sha256": ""}}
        farm.note(session, report_data.FROZEN, name, report=report, samples=len(digests))
    return _free(farm, digests)


def _with_samples(sweep: Sweep) -> Select[Attempt]:
    return (
        select(Attempt)
        .join(Trial, Attempt.trial_id == Trial.id)
        .where(Trial.sweep_id == sweep.id)
        .where(func.coalesce(blob_references.SAMPLES.sha256, "") != "")
    )


def _has_samples(session: Session, sweep: Sweep) -> bool:
    return session.scalar(_with_samples(sweep).limit(1)) is not None


def _cut(farm: FarmContext, age: timedelta | None) -> datetime | None:
    return None if age is None else farm.now() - age


def _ended_before(session: Session, cut: datetime | None) -> list[Sweep]:
    if cut is None:
        return []
    ended = (Sweep.finished_at < cut, Sweep.kind == SWEEP)
    return list(session.scalars(select(Sweep).where(*ended).order_by(Sweep.id)))


def _old(cut: datetime) -> ColumnElement[bool]:
    """Of events: old, and no report that is still shown hangs on it."""
    return (Event.at < cut) & ~((Event.kind == report_data.FROZEN) & blob_references.SWEEP_IS_THERE)


def _count_events(session: Session, cut: datetime | None) -> int:
    if cut is None:
        return 0
    return session.scalar(select(func.count()).select_from(Event).where(_old(cut))) or 0


def _prune_events(farm: FarmContext, cut: datetime | None) -> int:
    """The one place where events are ever deleted; that it was done is an event."""
    if cut is None:
        return 0
    with farm.database.transaction() as session:
        count = _count_events(session, cut)
        if count:
            session.execute(delete(Event).where(_old(cut)), execution_options=PLAIN)
            farm.note(session, "events_pruned", "events", count=count, before=cut.isoformat())
        return count
