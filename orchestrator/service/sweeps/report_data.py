"""Collects a report's data: every accepted result of a sweep, with its raw samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from agent import __version__
from agent.contract import codec
from agent.contract.trial import Samples, TrialRequest, TrialResult
from orchestrator.domain.errors import FarmError
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.trial import TrialState
from orchestrator.report.inputs import CellData, SweepData, TrialData
from orchestrator.report.schema import SweepReport
from orchestrator.service.context import FarmContext
from orchestrator.service.device_state import facts_of
from orchestrator.service.sweeps import progress
from orchestrator.service.trials import builds, circuit_breaker
from orchestrator.service.trials.samples import decode
from orchestrator.store.blob_references import SWEEP_NOT_DELETED
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.tables import Artifact, Attempt, Cell, Event, Model, Sweep, Trial

SAMPLES_PRUNED = "samples_pruned"
"""Kind of the event that names the report computed before a sweep's raw samples were pruned."""


def frozen_report(farm: FarmContext, name: str) -> SweepReport | None:
    """The stored report of a sweep whose raw samples were pruned, with a note that says so.

    ``None`` where the samples are there to compute it. Raises ``NotFound``, ``FarmError``.
    """
    with farm.database.read_session() as session:
        event = frozen_event(session, progress.find(session, name))
    if event is None:
        return None
    try:
        kept = SweepReport.model_validate_json(farm.blobs.read(event.data["report"]["sha256"]))
    except ValidationError:
        raise FarmError(
            f"{name}: its samples were pruned by a benchfarm of other reports"
        ) from None
    note = (
        f"The raw samples were pruned on {event.at:%Y-%m-%d}: the figures are what was computed "
        "from them before, cannot be computed again, and have no charts over single samples."
    )
    return kept.model_copy(update={"notes": (*kept.notes, note)})


def frozen_event(session: Session, sweep: Sweep) -> Event | None:
    """The event that names the stored report of a sweep whose raw samples were pruned."""
    return session.scalar(
        select(Event)
        .where(Event.kind == SAMPLES_PRUNED, Event.subject == sweep.name, SWEEP_NOT_DELETED)
        .order_by(Event.id.desc())
        .limit(1)
    )


def collect_sweep(farm: FarmContext, name: str) -> SweepData:
    """A sweep's results and raw samples. Raises ``NotFound``, ``DamagedSamples``."""
    with farm.database.read_session() as session:
        found = progress.find(session, name)
        spec = SweepSpec.model_validate(found.spec)
        view = progress.sweep_view(farm, session, found)
        cells = session.scalars(
            select(Cell)
            .where(Cell.sweep_id == found.id, Cell.build_key == "")
            .options(selectinload(Cell.trials), selectinload(Cell.device))
            .order_by(Cell.id)
        ).all()
        results = _results(session, found)
        failed_builds = _failed_builds(session, cells)
        lost = _lost_trials(session, found)
        sizes = _source_sizes(session)
        models = session.execute(select(Model.name, Model.details)).all()
        facts = {row.name: row.details for row in models}
        devices = {c.device.name: facts_of(c.device) for c in cells}
        given_up = _not_run(session, found)
        loaded = [(c, _cell(c, spec, sizes, facts.get(c.model, {}))) for c in cells]
    return SweepData(
        name=found.name,
        created_at=found.created_at,
        state=view.state,
        spec_yaml=found.spec_text,
        baseline=spec.baseline,
        cells=[
            CellData(
                **fields,
                trials=[
                    _comparable(t, fields["unlike_runs"])
                    for t in _trials(farm, c, results, failed_builds, lost)
                ],
                not_run=given_up.get(c.id, 0),
            )
            for c, fields in loaded
        ],
        devices={key: facts for key, facts in devices.items() if facts is not None},
        benchfarm_version=__version__,
    )


def _cell(
    cell: Cell, spec: SweepSpec, sizes: dict[str, int], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """``facts``: the model's details."""
    configuration = cell.configuration
    request = codec.from_plain(TrialRequest, cell.request) if cell.request else None
    source = configuration.get("source_sha256") or (request.model.sha256 if request else "")
    return {
        "cell_id": str(cell.id),
        "device": cell.device.name,
        "device_class": cell.device.device_class,
        "model": cell.model,
        "backend": configuration["backend"],
        "version": configuration["version"],
        "target": configuration["target"],
        "precision": configuration["precision"],
        "threads": configuration["threads"],
        "batch_size": configuration["batch_size"],
        "options": configuration["options"],
        "calibration": configuration["calibration"],
        "format": configuration.get("format", ""),
        "via": configuration.get("via", ""),
        "scenario": spec.scenario.at_batch(configuration["batch_size"]),
        "planned_trials": len(cell.trials),
        "state_counts": dict(Counter(t.state for t in cell.trials)),
        "skip_reason": cell.skip,
        "source_size_bytes": sizes.get(source, 0),
        "source_stored": _stored(facts, request),
        "unlike_runs": facts.get("unrepeatable", {}),
    }


def _stored(facts: Mapping[str, Any], request: TrialRequest | None) -> str:
    """What the source file holds, where its precision does not say it."""
    if request is None or request.model.made:
        return ""
    words = str(facts.get("stored", {}).get(request.model.format, ""))
    return "" if words == request.model.precision else words


def _trials(
    farm: FarmContext,
    cell: Cell,
    results: dict[int, tuple[Attempt, TrialResult]],
    failed_builds: dict[int, TrialResult],
    lost: dict[int, TrialResult],
) -> list[TrialData]:
    return (
        [
            TrialData(t.number, attempt.number, result, _samples(farm.blobs, result.samples))
            for t in cell.trials
            if t.id in results
            for attempt, result in [results[t.id]]
        ]
        + [
            TrialData(t.number, 0, failed_builds[t.waits_for])
            for t in cell.trials
            if t.waits_for in failed_builds
        ]
        + [
            TrialData(t.number, t.attempt, lost[t.id])
            for t in cell.trials
            if t.id in lost and t.id not in results
        ]
    )


def _comparable(trial: TrialData, unlike_runs: Mapping[str, str]) -> TrialData:
    """The trial without a fidelity that an agent of 0.1 took of outputs that have none."""
    found = trial.result.fidelity
    if found is None or found.passed or found.worst_output not in unlike_runs:
        return trial
    return replace(trial, result=replace(trial.result, fidelity=None))


def _failed_builds(session: Session, cells: Sequence[Cell]) -> dict[int, TrialResult]:
    """Id of a failed build → the result to show for the trials that waited for it."""
    ended = (TrialState.FAILED.value, TrialState.UNSUPPORTED.value)
    waited = {
        t.waits_for for c in cells for t in c.trials if t.waits_for is not None and t.state in ended
    }
    return {build_id: builds.result_of_failed_build(session, build_id) for build_id in waited}


def _lost_trials(session: Session, found: Sweep) -> dict[int, TrialResult]:
    """Trial id → the result to show, of trials whose every attempt was lost."""
    rows = session.execute(
        select(Trial, Attempt)
        .join(Attempt, (Attempt.trial_id == Trial.id) & (Attempt.number == Trial.attempt))
        .join(Sweep, Trial.sweep_id == Sweep.id)
        .where(Trial.sweep_id == found.id, Trial.state == TrialState.FAILED.value)
        .where(~Attempt.accepted, Trial.spent >= Sweep.attempts)
    )
    return {
        t.id: circuit_breaker.result_of_lost_trial(t)
        for t, attempt in rows
        if circuit_breaker.was_lost(t, attempt)
    }


def _not_run(session: Session, found: Sweep) -> dict[int, int]:
    """Cell id → number of trials that failed without a run."""
    rows = session.execute(
        select(Trial.cell_id, func.count())
        .join(Sweep, Trial.sweep_id == Sweep.id)
        .where(Trial.sweep_id == found.id, *circuit_breaker.not_run_conditions())
        .group_by(Trial.cell_id)
    )
    return dict(rows.all())


def _samples(blobs: FolderBlobs, samples: Samples | None) -> NDArray[np.int64] | None:
    if samples is None or not samples.sha256:  # not taken, or pruned
        return None
    return decode(samples, blobs.read(samples.sha256))


def _results(session: Session, found: Sweep) -> dict[int, tuple[Attempt, TrialResult]]:
    rows = session.scalars(
        select(Attempt)
        .join(Trial, Attempt.trial_id == Trial.id)
        .where(Trial.sweep_id == found.id, Attempt.accepted)
        .order_by(Attempt.number)
    )
    return {a.trial_id: (a, codec.from_plain(TrialResult, a.result)) for a in rows}


def _source_sizes(session: Session) -> dict[str, int]:
    rows = session.execute(select(Artifact.sha256, Artifact.size_bytes))
    return dict(rows.all())
