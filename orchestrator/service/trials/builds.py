"""Builds: conversions that a builder makes for cells of other devices.

A build is a trial in a cell of its own, with leases, attempts, cancelling and resuming like any
other. The trials that run its artifact wait for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from agent.contract import codec
from agent.contract.conversion_graph import tools_on_path
from agent.contract.device import DeviceFacts
from agent.contract.trial import (
    SCHEMA,
    Built,
    Failure,
    RuntimeRef,
    Scenario,
    TrialRequest,
    TrialResult,
)
from orchestrator.domain.builders import PlannedBuild, words
from orchestrator.domain.errors import UserError
from orchestrator.domain.placement import Placement
from orchestrator.domain.trial import FINAL, RESULTS, TrialState
from orchestrator.service.context import FarmContext
from orchestrator.service.device_state import facts_of
from orchestrator.service.trials.transitions import apply, lifecycle_of
from orchestrator.store import blob_references
from orchestrator.store.tables import Attempt, Cell, Device, Sweep, Trial

KEYS_PER_QUERY = 500
"""Databases limit the number of parameters of a statement."""


@dataclass(frozen=True)
class NewBuild:
    """A build to insert; ``key``: SHA-256 over everything that its artifact depends on."""

    key: str
    builder: str
    device_id: int
    label: str
    request: TrialRequest


def plan_build(
    placement: Placement, request: TrialRequest, devices: Mapping[str, Device]
) -> NewBuild:
    """The build that a placed cell needs; ``request``: the cell's own, with the source model."""
    build = placement.build
    assert build is not None
    builder = devices[build.builder]
    facts = facts_of(builder)
    assert facts is not None
    calibrates = any(tool.needs_calibration for tool in tools_on_path(build.way, facts.tools))
    own = replace(
        request,
        runtime=RuntimeRef(
            backend="",
            precision=build.node[1],
            options=dict(placement.build_options),
            format=build.node[0],
            via=build.via,
        ),
        scenario=Scenario(),
        dataset=request.dataset if calibrates else None,
        calibration=request.calibration if calibrates else "",
        seed=request.seed if calibrates else 0,
        build=build.node,
    )
    return NewBuild(
        key=_key(own, build, builder, facts),
        builder=builder.name,
        device_id=builder.id,
        label=f"building {words(build.node)} for {request.model.name}",
        request=own,
    )


def _key(request: TrialRequest, build: PlannedBuild, builder: Device, facts: DeviceFacts) -> str:
    """Includes environment names: those that benchfarm built contain a hash of their packages."""
    model, runtime = request.model, request.runtime
    environments = {edge.environment for edge in build.way}
    random = {"drawn": request.reference.sha256} if request.calibration == "random" else {}
    parts = {
        **random,
        "source": [model.format, model.sha256],
        "tensors": [
            [asdict(spec) for spec in specs]
            for specs in (model.inputs, model.own_inputs, model.own_outputs)
        ],
        "way": [[e.converter, e.source, e.target, e.environment] for e in build.way],
        "runtimes": sorted(
            [r.environment, r.backend, r.version]
            for r in facts.runtimes
            if r.environment in environments and not r.missing
        ),
        "options": runtime.options,
        "calibration": request.calibration,
        "dataset": request.dataset.sha256 if request.dataset else "",
        "seed": request.seed,
        "builder": builder.name,
        "agent": builder.agent_version,
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def find_earlier_products(
    farm: FarmContext, session: Session, keys: Collection[str]
) -> dict[str, Built]:
    """Build key → artifact that was built before and is still stored. Shares the blobs' lock, so
    that it stays stored until the transaction ends."""
    found: dict[str, Built] = {}
    blob_references.share_blobs_lock(session, farm.blobs, [])
    listed = sorted(keys)
    for at in range(0, len(listed), KEYS_PER_QUERY):
        rows = session.execute(
            select(Cell.build_key, Attempt.result)
            .join(Trial, Trial.cell_id == Cell.id)
            .join(Attempt, Attempt.trial_id == Trial.id)
            .where(Cell.build_key.in_(listed[at : at + KEYS_PER_QUERY]))
            .where(Attempt.accepted, Trial.state == TrialState.DONE.value)
            .order_by(Attempt.ended_at)
        )
        for key, result in rows:
            built = codec.from_plain(TrialResult, result).built
            if built is not None and farm.blobs.has(built.sha256):
                found[key] = built
    return found


def with_built(request: TrialRequest, built: Built, builder: str) -> TrialRequest:
    """A cell's request with the built artifact as its model."""
    model = replace(
        request.model,
        format=built.format,
        precision=built.precision,
        sha256=built.sha256,
        size_bytes=built.size_bytes,
        entry=built.entry,
        own_inputs=built.inputs,
        own_outputs=built.outputs,
        made=tuple(f"{step}, on builder {builder}" for step in built.steps),
    )
    return replace(request, model=model)


def insert_builds(session: Session, sweep: Sweep, builds: Sequence[NewBuild]) -> dict[str, int]:
    """Insert each distinct build once; returns build key → id of its trial.

    A build that the sweep has already, open or to be resumed, is not inserted again.
    """
    of_builds = (Cell.sweep_id == sweep.id, Cell.build_key != "")
    trials = (
        select(Cell.build_key, Trial.id).join(Trial, Trial.cell_id == Cell.id).where(*of_builds)
    )
    may_end_well = Trial.state.not_in([state.value for state in RESULTS])
    known: dict[str, int] = dict(session.execute(trials.where(may_end_well)).all())
    distinct = {build.key: build for build in builds if build.key not in known}
    if not distinct:
        return known
    earlier = set(session.scalars(select(Cell.id).where(*of_builds)))
    session.execute(
        insert(Cell),
        [
            {
                "sweep_id": sweep.id,
                "device_id": build.device_id,
                "model": build.request.model.name,
                "configuration": {"label": build.label},
                "request": codec.to_plain(build.request),
                "build_key": build.key,
            }
            for build in distinct.values()
        ],
    )
    rows = session.execute(select(Cell.build_key, Cell.id).where(*of_builds)).all()
    ids: dict[str, int] = {key: cell_id for key, cell_id in rows if cell_id not in earlier}
    session.execute(
        insert(Trial),
        [
            {
                "sweep_id": sweep.id,
                "cell_id": ids[key],
                "device_id": build.device_id,
                "number": 0,
                "place": number - len(distinct),  # before the builder's own measurements
            }
            for number, (key, build) in enumerate(distinct.items())
        ],
    )
    return dict(session.execute(trials.where(may_end_well)).all())


def require_result_fits_cell(cell: Cell, given: TrialResult) -> None:
    """Raises ``UserError`` where a build cell's result is a measurement, or the reverse."""
    if not cell.build_key:
        if given.built is not None:
            raise UserError("this attempt is to measure, not to build")
        return
    if given.status == "invalid":
        raise UserError("a build measures nothing that could be invalid")
    if given.status != "ok":
        return
    wanted = codec.from_plain(TrialRequest, cell.request).build
    if given.built is None or (given.built.format, given.built.precision) != wanted:
        raise UserError(f"this attempt is to build {words(wanted) if wanted else 'something'}")


def release_waiting_trials(session: Session, trial: Trial, result: TrialResult | None) -> None:
    """Release the trials that wait for a build that has ended, or end them as the build ended.

    Does nothing for a trial that is no build, or has not ended. The caller has called
    ``transitions.lock_sweep``. ``result``: ``None`` where the last attempt was lost.
    """
    state = TrialState(trial.state)
    cell = session.get_one(Cell, trial.cell_id)
    if not cell.build_key or state not in FINAL:
        return
    waiting = session.scalars(
        select(Trial).where(Trial.waits_for == trial.id).with_for_update()
    ).all()
    if state is not TrialState.DONE:
        for row in waiting:
            if row.state == TrialState.PENDING.value:
                apply(row, lifecycle_of(row).to(state))
        return
    assert result is not None
    assert result.built is not None
    for found in session.scalars(select(Cell).where(Cell.id.in_({t.cell_id for t in waiting}))):
        request = codec.from_plain(TrialRequest, found.request)
        built = with_built(request, result.built, cell.device.name)
        found.request = codec.to_plain(built)
    for row in waiting:
        row.waits_for = None


def result_of_failed_build(session: Session, build_id: int) -> TrialResult:
    """The result to show for a trial whose build failed."""
    trial = session.get_one(Trial, build_id)
    cell = session.get_one(Cell, trial.cell_id)
    row = session.scalar(
        select(Attempt).where(Attempt.trial_id == trial.id, Attempt.number == trial.attempt)
    )
    given = codec.from_plain(TrialResult, row.result) if row and row.result else None
    failure = given.failure if given else None
    if failure is None:
        note = row.note if row else "it never began"
        failure = Failure("convert", "lost", note)
    message = f"{cell.configuration['label']} on builder {cell.device.name}: {failure.message}"
    return TrialResult(
        SCHEMA,
        "",
        "unsupported" if trial.state == TrialState.UNSUPPORTED.value else "failed",
        given.agent_version if given else "",
        failure=replace(failure, message=message),
    )
