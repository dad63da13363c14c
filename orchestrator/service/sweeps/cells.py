"""Inserting a sweep's cells, their builds and their trials, in bulk.

Ten thousand single inserts would hold SQLite's write lock for longer than a lease lasts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from agent.contract import codec
from agent.contract.conversion_graph import remaining_via
from agent.contract.trial import SCHEMA, DatasetRef, Limits, ReferenceRef, RuntimeRef, TrialRequest
from orchestrator.domain.errors import Conflict
from orchestrator.domain.matrix import Configuration, interleave
from orchestrator.domain.placement import Placement
from orchestrator.domain.spec import SweepSpec
from orchestrator.service.context import FarmContext
from orchestrator.service.device_state import facts_of
from orchestrator.service.models import registration
from orchestrator.service.trials import builds
from orchestrator.service.trials.builds import NewBuild
from orchestrator.store import blob_references
from orchestrator.store.device_class_files import device_class
from orchestrator.store.tables import Cell, Device, Model, Sweep, Trial


def insert_cells(
    farm: FarmContext,
    session: Session,
    sweep: Sweep,
    spec: SweepSpec,
    placements: Sequence[Placement],
) -> None:
    """Insert a cell for each placement, a build for each distinct artifact that a builder has to
    make and has not made before, and the trials; those of a cell with such a build wait for it."""
    prepared = _prepare(farm, session, spec, placements)
    rows = [
        {
            "sweep_id": sweep.id,
            "device_id": prepared.device_ids[p.device],
            "model": p.configuration.model,
            **_cell_columns(p, prepared.requests.get(number), prepared.builds.get(number)),
        }
        for number, p in enumerate(placements)
    ]
    session.execute(insert(Cell), rows)
    written = session.scalars(select(Cell.id).where(Cell.sweep_id == sweep.id).order_by(Cell.id))
    _insert_work(session, sweep, spec, placements, list(written), prepared)


def fill_cells(
    farm: FarmContext,
    session: Session,
    sweep: Sweep,
    spec: SweepSpec,
    filled: Sequence[tuple[Cell, Placement]],
) -> None:
    """Give cells that were skipped until now what they run: a request, a build where a builder has
    to convert first, and their trials, after those that their devices have already.

    The caller has called ``transitions.lock_sweep``.
    """
    placements = [placement for _, placement in filled]
    prepared = _prepare(farm, session, spec, placements)
    for number, (cell, placement) in enumerate(filled):
        columns = _cell_columns(placement, prepared.requests[number], prepared.builds.get(number))
        for name, value in columns.items():
            setattr(cell, name, value)
    session.flush()
    _insert_work(session, sweep, spec, placements, [cell.id for cell, _ in filled], prepared)


@dataclass(frozen=True)
class _Prepared:
    """What is needed to write cells. ``requests`` and ``builds`` by the number of the placement;
    ``missing``: the builds that have to be made now."""

    device_ids: Mapping[str, int]
    requests: Mapping[int, TrialRequest]
    builds: Mapping[int, NewBuild]
    missing: Sequence[NewBuild]


def _prepare(
    farm: FarmContext, session: Session, spec: SweepSpec, placements: Sequence[Placement]
) -> _Prepared:
    devices = {d.name: d for d in session.scalars(select(Device))}
    blob_references.share_blobs_lock(session, farm.blobs, [])  # no model is removed from here on
    known = {m.name: m for m in session.scalars(select(Model))}
    for removed in {p.configuration.model for p in placements} - set(known):
        raise Conflict(f"model {removed!r} was removed just now: nothing was submitted")
    session.flush()
    requests = {
        number: _request(known[placement.configuration.model], spec, placement)
        for number, placement in enumerate(placements)
        if not placement.skip
    }
    wanted = {
        number: builds.plan_build(placement, requests[number], devices)
        for number, placement in enumerate(placements)
        if placement.build is not None
    }
    # after planning the builds, whose limits are those of the builder
    limits = {name: limits_on(spec, devices[name]) for name in {p.device for p in placements}}
    requests = {
        number: replace(request, limits=limits[placements[number].device])
        for number, request in requests.items()
    }
    made = builds.find_earlier_products(farm, session, {build.key for build in wanted.values()})
    for number, build in wanted.items():
        if build.key in made:
            requests[number] = builds.with_built(requests[number], made[build.key], build.builder)
    missing = [build for build in wanted.values() if build.key not in made]
    device_ids = {name: device.id for name, device in devices.items()}
    return _Prepared(device_ids, requests, wanted, missing)


def _insert_work(
    session: Session,
    sweep: Sweep,
    spec: SweepSpec,
    placements: Sequence[Placement],
    cell_ids: Sequence[int],
    prepared: _Prepared,
) -> None:
    """Insert builds and trials; ``cell_ids`` are those of ``placements``, in their order."""
    build_ids = builds.insert_builds(session, sweep, prepared.missing)
    waits_for = {
        cell_ids[n]: build_ids[build.key]
        for n, build in prepared.builds.items()
        if build.key in build_ids
    }
    per_device: dict[str, list[int]] = defaultdict(list)
    for number, placement in enumerate(placements):
        if not placement.skip:
            per_device[placement.device].append(cell_ids[number])
    _insert_trials(session, sweep, spec, per_device, prepared.device_ids, waits_for)


def _insert_trials(
    session: Session,
    sweep: Sweep,
    spec: SweepSpec,
    per_device: Mapping[str, Sequence[int]],
    devices: Mapping[str, int],
    waits_for: Mapping[int, int],
) -> None:
    trials: list[dict[str, object]] = []
    # where the sweep is resumed its devices have trials already: these come after them
    of_sweep = select(Trial.device_id, func.max(Trial.place)).where(Trial.sweep_id == sweep.id)
    last: dict[int, int] = dict(session.execute(of_sweep.group_by(Trial.device_id)).all())
    for name, cells in per_device.items():
        order = interleave(cells, spec.trials, f"{spec.seed}/{name}")
        first = max(0, last.get(devices[name], -1) + 1)
        trials += [
            {
                "sweep_id": sweep.id,
                "cell_id": cell_id,
                "device_id": devices[name],
                "number": number,
                "place": place,
                "waits_for": waits_for.get(cell_id),
            }
            for place, (cell_id, number) in enumerate(order, first)
        ]
    session.execute(insert(Trial), trials)


def _cell_columns(
    placement: Placement, request: TrialRequest | None, build: NewBuild | None
) -> dict[str, object]:
    """The columns of a cell that follow from its placement."""
    configuration = placement.configuration
    return {
        "configuration": {
            **asdict(configuration),
            "options": dict(configuration.options),
            "version": placement.version or configuration.version,
            "label": configuration.label,
            # where a builder converts, the report still shows the source's size
            **({"source_sha256": build.request.model.sha256} if build else {}),
        },
        "request": codec.to_plain(request) if request else None,
        "skip": placement.skip,
    }


def configuration_of(cell: Cell) -> Configuration:
    """The configuration of a cell that was skipped: the one that its sweep asks for."""
    known = {f.name for f in fields(Configuration)}
    given = {key: value for key, value in cell.configuration.items() if key in known}
    return Configuration(**{**given, "options": tuple(sorted(given["options"].items()))})


def limits_on(spec: SweepSpec, device: Device) -> Limits:
    """The sweep's limits, bounded for the device's class and memory."""
    limits = spec.limits.wire()
    known, facts = device_class(device.device_class), facts_of(device)
    if known is None or facts is None:
        return limits
    return known.limits.bound(limits, spec.limits.model_fields_set, facts.memory_mib)


def _request(model: Model, spec: SweepSpec, placement: Placement) -> TrialRequest:
    configuration, build = placement.configuration, placement.build
    dataset = codec.from_plain(DatasetRef, model.dataset) if model.dataset else None
    via = configuration.passes
    return TrialRequest(
        schema=SCHEMA,
        attempt_id="",
        trial_id="",
        model=registration.model_ref(model, placement.format),
        runtime=RuntimeRef(
            backend=configuration.backend,
            version=placement.version,
            target=configuration.target,
            precision=configuration.precision,
            threads=configuration.threads,
            options=dict(placement.options),
            format=configuration.format,
            via=remaining_via(via, build.way) if build else via,
        ),
        scenario=spec.scenario.at_batch(configuration.batch_size),
        reference=codec.from_plain(ReferenceRef, model.reference),
        tolerance=spec.tolerance_for(configuration.precision),
        dataset=dataset,
        calibration=configuration.calibration,
        limits=spec.limits.wire(),
        seed=spec.seed,
    )
