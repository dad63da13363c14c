"""Writing a sweep: its cells, what is built for them, and their trials, in bulk.

Ten thousand cells one by one would hold SQLite's write lock for longer than a lease lasts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from agent.contract import codec
from agent.contract.conversion_graph import remaining_via
from agent.contract.trial import SCHEMA, DatasetRef, Limits, ReferenceRef, RuntimeRef, TrialRequest
from orchestrator.domain.matrix import interleave
from orchestrator.domain.placement import Placement
from orchestrator.domain.spec import SweepSpec
from orchestrator.service.context import FarmContext
from orchestrator.service.device_state import facts_of
from orchestrator.service.models import registration
from orchestrator.service.trials import builds
from orchestrator.service.trials.builds import NewBuild
from orchestrator.store.device_class_files import device_class
from orchestrator.store.tables import Cell, Device, Model, Sweep, Trial


def add(
    farm: FarmContext,
    session: Session,
    sweep: Sweep,
    spec: SweepSpec,
    placements: Sequence[Placement],
) -> None:
    """A cell for each placement, a build for each distinct artifact that another device has to make
    and has not made before, and the trials; those that run what is yet to be built wait for it."""
    devices = {d.name: d for d in session.scalars(select(Device))}
    known = {m.name: m for m in session.scalars(select(Model))}
    session.flush()
    requests = {
        number: _request(known[placement.configuration.model], spec, placement)
        for number, placement in enumerate(placements)
        if not placement.skip
    }
    wanted = {
        number: builds.new(placement, requests[number], devices)
        for number, placement in enumerate(placements)
        if placement.build is not None
    }
    # what is built elsewhere is bound by that machine, not by the board that it is for
    bounds = {name: _limits(spec, devices[name]) for name in {p.device for p in placements}}
    requests = {
        number: replace(request, limits=bounds[placements[number].device])
        for number, request in requests.items()
    }
    made = builds.made_before(farm, session, {build.key for build in wanted.values()})
    for number, build in wanted.items():
        if build.key in made:
            requests[number] = builds.with_built(requests[number], made[build.key], build.builder)
    rows = [
        _row(sweep, p, devices[p.device].id, requests.get(number), wanted.get(number))
        for number, p in enumerate(placements)
    ]
    session.execute(insert(Cell), rows)
    written = session.scalars(select(Cell.id).where(Cell.sweep_id == sweep.id).order_by(Cell.id))
    ids = dict(enumerate(written))
    missing = [build for build in wanted.values() if build.key not in made]
    waits = builds.add(session, sweep, missing)
    waiting = {ids[n]: waits[build.key] for n, build in wanted.items() if build.key in waits}
    per_device: dict[str, list[int]] = defaultdict(list)
    for number, placement in enumerate(placements):
        if not placement.skip:
            per_device[placement.device].append(ids[number])
    numbers = {name: device.id for name, device in devices.items()}
    _add_trials(session, sweep, spec, per_device, numbers, waiting)


def _add_trials(
    session: Session,
    sweep: Sweep,
    spec: SweepSpec,
    per_device: Mapping[str, Sequence[int]],
    devices: Mapping[str, int],
    waiting: Mapping[int, int],
) -> None:
    trials: list[dict[str, object]] = []
    for name, cells in per_device.items():
        order = interleave(cells, spec.trials, f"{spec.seed}/{name}")
        trials += [
            {
                "sweep_id": sweep.id,
                "cell_id": cell_id,
                "device_id": devices[name],
                "number": number,
                "place": turn,
                "waits_for": waiting.get(cell_id),
            }
            for turn, (cell_id, number) in enumerate(order)
        ]
    session.execute(insert(Trial), trials)


def _row(
    sweep: Sweep,
    placement: Placement,
    device_id: int,
    request: TrialRequest | None,
    build: NewBuild | None,
) -> dict[str, object]:
    configuration = placement.configuration
    return {
        "sweep_id": sweep.id,
        "device_id": device_id,
        "model": configuration.model,
        "configuration": {
            **asdict(configuration),
            "options": dict(configuration.options),
            "version": placement.version or configuration.version,
            "label": configuration.label,
            # of what a builder made the report still wants the source's size
            **({"source_sha256": build.request.model.sha256} if build else {}),
        },
        "request": codec.to_plain(request) if request else None,
        "skip": placement.skip,
    }


def _limits(spec: SweepSpec, device: Device) -> Limits:
    """The sweep's, as they make sense on a device of that class and memory."""
    asked = spec.limits.wire()
    known, facts = device_class(device.device_class), facts_of(device)
    if known is None or facts is None:
        return asked
    return known.limits.bound(asked, spec.limits.model_fields_set, facts.memory_mib)


def _request(model: Model, spec: SweepSpec, placement: Placement) -> TrialRequest:
    configuration, build = placement.configuration, placement.build
    dataset = codec.from_plain(DatasetRef, model.dataset) if model.dataset else None
    via = configuration.passes
    return TrialRequest(
        schema=SCHEMA,
        attempt_id="",
        trial_id="",
        model=registration.wire(model, placement.format),
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
