"""Conversions that a builder makes for other devices' cells: written, reused, released, reported.

A build is a trial in a cell of its own: its leases and attempts, cancelling and resuming it are as
any other's. Those that run what it makes wait for it.
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
from orchestrator.domain.trial import FINAL, TrialState
from orchestrator.service.context import FarmContext
from orchestrator.service.device_state import facts_of
from orchestrator.service.trials.transitions import apply, lifecycle_of
from orchestrator.store import blob_references
from orchestrator.store.tables import Attempt, Cell, Device, Sweep, Trial

KEYS_A_QUERY = 500
"""Databases bound how many values one statement may carry."""


@dataclass(frozen=True)
class NewBuild:
    """What a builder is to make; ``key`` is over everything that it depends on."""

    key: str
    builder: str
    device_id: int
    label: str
    request: TrialRequest


def new(placement: Placement, request: TrialRequest, devices: Mapping[str, Device]) -> NewBuild:
    """The build that a placed cell needs; ``request`` is the cell's own, on the source."""
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
    """Names of environments that benchfarm built hold a hash of the packages in them."""
    model, runtime = request.model, request.runtime
    there = {edge.environment for edge in build.way}
    parts = {
        "source": [model.format, model.sha256],
        "tensors": [
            [asdict(spec) for spec in specs]
            for specs in (model.inputs, model.own_inputs, model.own_outputs)
        ],
        "way": [[e.converter, e.source, e.target, e.environment] for e in build.way],
        "runtimes": sorted(
            [r.environment, r.backend, r.version]
            for r in facts.runtimes
            if r.environment in there and not r.missing
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


def made_before(farm: FarmContext, session: Session, keys: Collection[str]) -> dict[str, Built]:
    """By key, what was built under it before; it is there until the transaction ends."""
    found: dict[str, Built] = {}
    blob_references.hold(session, farm.blobs, [])
    listed = sorted(keys)
    for at in range(0, len(listed), KEYS_A_QUERY):
        rows = session.execute(
            select(Cell.build_key, Attempt.result)
            .join(Trial, Trial.cell_id == Cell.id)
            .join(Attempt, Attempt.trial_id == Trial.id)
            .where(Cell.build_key.in_(listed[at : at + KEYS_A_QUERY]))
            .where(Attempt.accepted, Trial.state == TrialState.DONE.value)
            .order_by(Attempt.ended_at)
        )
        for key, result in rows:
            built = codec.from_plain(TrialResult, result).built
            if built is not None and farm.blobs.has(built.sha256):
                found[key] = built
    return found


def with_built(request: TrialRequest, built: Built, builder: str) -> TrialRequest:
    """The request of a cell with what was built for it as its model."""
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


def add(session: Session, sweep: Sweep, builds: Sequence[NewBuild]) -> dict[str, int]:
    """Write each distinct build once; by key, the trial to wait for."""
    distinct = {build.key: build for build in builds}
    if not distinct:
        return {}
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
    mine = (Cell.sweep_id == sweep.id, Cell.build_key != "")
    ids: dict[str, int] = dict(session.execute(select(Cell.build_key, Cell.id).where(*mine)).all())
    session.execute(
        insert(Trial),
        [
            {
                "sweep_id": sweep.id,
                "cell_id": ids[key],
                "device_id": build.device_id,
                "number": 0,
                "place": turn - len(distinct),  # before the builder's own measurements
            }
            for turn, (key, build) in enumerate(distinct.items())
        ],
    )
    trials = select(Cell.build_key, Trial.id).join(Trial, Trial.cell_id == Cell.id).where(*mine)
    return dict(session.execute(trials).all())


def check(cell: Cell, given: TrialResult) -> None:
    """Raises ``UserError`` where a result is not of the kind that its cell asks for."""
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


def settle(session: Session, trial: Trial, result: TrialResult | None) -> None:
    """A trial has come to its end: whoever waits for it can run what it built, or ends as it did.

    The caller has ``lock``ed the sweep. ``result`` is ``None`` where the last attempt was lost.
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


def in_its_stead(session: Session, build_id: int) -> TrialResult:
    """The result of a trial that ended because what it was to run could not be built."""
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
