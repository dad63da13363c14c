"""Sweeps: plan, submit, cancel, resume."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from agent.runtimes import registry
from orchestrator.domain.builders import BuilderDevice, is_builder
from orchestrator.domain.errors import BoardsNotReady, Conflict, NotFound, UserError
from orchestrator.domain.health import ILL
from orchestrator.domain.matrix import Configuration, count, expand, may_be_baseline
from orchestrator.domain.placement import (
    Placement,
    PlacementDevice,
    PlacementModel,
    Ways,
    chosen,
    distinct,
    place,
    sources_of,
)
from orchestrator.domain.spec import SweepSpec, parse_with_lines
from orchestrator.domain.trial import OUTSTANDING, RESUMABLE, TrialState, before
from orchestrator.domain.yaml_file import ParsedYaml
from orchestrator.service import current_actor
from orchestrator.service.context import FarmContext
from orchestrator.service.device_state import facts_of, online, retired
from orchestrator.service.health import health_checks
from orchestrator.service.sweeps import (
    baseline_check,
    boards,
    cells,
    replanning,
    report_data,
    time_limits,
)
from orchestrator.service.sweeps.duration_estimate import Estimate, Estimator
from orchestrator.service.sweeps.progress import find, sweep_view
from orchestrator.service.sweeps.replanning import Placer, replan
from orchestrator.service.trials.transitions import finish_sweep, lock_sweep
from orchestrator.service.views import PlannedBoard, PlannedCell, PlanView, SweepView
from orchestrator.store.tables import Attempt, Cell, Device, Model, Sweep, Trial

log = logging.getLogger(__name__)

CANCELLED = TrialState.CANCELLED
NO_SESSION_SYNC = {"synchronize_session": False}
"""Trials that are changed in bulk are not used again in their session."""


@dataclass(frozen=True)
class PlannedSweep:
    """A spec placed on the farm's devices as they are now. ``missed``: see ``boards.missed``.
    ``notes``: what its author should know before it runs."""

    spec: SweepSpec
    placements: tuple[Placement, ...]
    boards: list[PlannedBoard]
    missed: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def running(self) -> list[Placement]:
        return [p for p in self.placements if not p.skip]


def plan(farm: FarmContext, text: str, source: str, name: str = "") -> PlanView:
    """What a sweep would run and where, what it would skip and why, and how long it should take.

    Raises ``UserError`` as ``submit`` does.
    """
    with farm.database.read_session() as session:
        planned = _plan(farm, session, text, source, name)
        estimator = Estimator(session)
        found = [_planned_cell(p, planned.spec, estimator) for p in planned.placements]
    busy: dict[str, float] = defaultdict(float)
    for cell in found:
        busy[cell.device] += cell.convert_s + cell.estimate_s * cell.trials
    notes = list(planned.notes)
    builds = {
        (p.build.builder, p.configuration.model, p.build.described): p
        for p in planned.running
        if p.build
    }
    for builder, model, _described in builds:
        build_s = estimator.build_s(builder, model)
        busy[builder] += build_s or 0.0
        if build_s is None:
            notes.append(f"the estimate does not count what {builder} converts of {model} first")
    return PlanView(
        name=planned.spec.name,
        cells=found,
        trials=sum(c.trials for c in found),
        estimate_s=max(busy.values(), default=0.0),
        boards=planned.boards,
        missed=planned.missed,
        notes=notes,
    )


def submit(
    farm: FarmContext,
    text: str,
    source: str,
    name: str = "",
    *,
    yes_really: bool = False,
    strict: bool = False,
) -> SweepView:
    """Insert a spec's cells and pending trials in one transaction.

    ``strict``: only where every board that it selects is ready, and runs a cell of it.

    Raises:
        UserError: a bad spec, an unknown model or backend, no device that matches, nothing to run,
            or more cells than usual without ``yes_really``.
        Conflict: a sweep of that name exists.
        BoardsNotReady: with ``strict``, a board is not ready, left out or missed.
    """
    with farm.database.transaction() as session:
        planned = _plan(farm, session, text, source, name)
        if strict:
            _require_ready(planned)
        if not planned.running:
            reasons = "; ".join(sorted({p.skip for p in planned.placements}))
            raise UserError(f"{source}: no cell of this sweep can run: {reasons}")
        if len(planned.running) > farm.settings.confirm_cells and not yes_really:
            raise UserError(
                f"{source}: {len(planned.running)} cells to run, more than "
                f"{farm.settings.confirm_cells}: look at `benchfarm sweep plan`, then run it with "
                "--yes-really"
            )
        if session.scalar(select(Sweep.id).where(Sweep.name == planned.spec.name)):
            raise Conflict(
                f"a sweep {planned.spec.name!r} exists; give this one another --name, "
                f"or go on with `benchfarm sweep resume {planned.spec.name}`"
            )
        sweep = Sweep(
            name=planned.spec.name,
            spec=planned.spec.model_dump(mode="json"),
            spec_text=text,
            attempts=planned.spec.attempts,
            created_at=farm.now(),
            owner=current_actor.get(),
        )
        # first, because it locks devices' rows (docs/decisions/0010-order-of-locks.md)
        health_checks.request_checks_before_sweep(
            farm, session, planned.spec.name, _devices_of(session, planned)
        )
        session.add(sweep)
        cells.insert_cells(farm, session, sweep, planned.spec, planned.placements)
        farm.record_event(session, "sweep_submitted", sweep.name, cells=len(planned.placements))
        session.flush()
        return sweep_view(farm, session, sweep)


def _require_ready(planned: PlannedSweep) -> None:
    """Raises ``BoardsNotReady``."""
    why = {b.device: b.not_ready or b.left_out for b in planned.boards}
    lines = [f"{name}: {text}" for name, text in {**why, **planned.missed}.items() if text]
    if lines:
        listed = "\n  ".join(lines)
        raise BoardsNotReady(
            f"sweep {planned.spec.name} was not submitted (--strict): not every board that it "
            f"asks for would run it now:\n  {listed}"
        )


def _devices_of(session: Session, planned: PlannedSweep) -> Sequence[int]:
    """The devices that measure or build."""
    names = {p.device for p in planned.running}
    names |= {p.build.builder for p in planned.running if p.build is not None}
    return session.scalars(select(Device.id).where(Device.name.in_(names))).all()


def _plan(farm: FarmContext, session: Session, text: str, source: str, name: str) -> PlannedSweep:
    parsed = parse_with_lines(text, source, name)
    spec = parsed.value
    by_name = {m.name: m for m in session.scalars(select(Model))}
    for index, choice in enumerate(spec.models):
        if choice.name not in by_name:
            where = f"{parsed.where('models', index)}: models: "
            raise NotFound("model", choice.name, list(by_name), where)
    known = list(session.scalars(select(Device)))
    devices = _choose_devices(known, parsed)
    _refuse_unknown_backends(parsed, devices)
    total = count(spec) * len(devices)
    if total > farm.settings.max_cells:
        raise UserError(
            f"{source}: {total} cells, more than the limit of {farm.settings.max_cells}; "
            "split the sweep or raise BENCHFARM_MAX_CELLS"
        )
    configurations = expand(spec)
    if spec.baseline and not any(
        may_be_baseline(spec.baseline, c, d.name) for c in configurations for d in devices
    ):
        wanted = ", ".join(f"{key}: {value}" for key, value in spec.baseline.items())
        raise UserError(
            f"{parsed.where('baseline')}: baseline: no cell of this sweep has {wanted}; "
            "name one that it runs"
        )
    views = {key: _model_view(m) for key, m in by_name.items()}
    builders = [_builder(farm, d) for d in known if is_builder(d.tags, d.enabled)]
    ways: Ways = {}
    by_device = {row.name: row for row in known}
    placements = distinct(
        time_limits.if_in_time(
            place(device, configuration, views[configuration.model], builders, ways),
            spec,
            by_device[device.name],
        )
        for device in devices
        for configuration in configurations
    )
    return PlannedSweep(
        spec=spec,
        placements=tuple(placements),
        boards=boards.planned_boards(farm, known, placements),
        missed=boards.missed(session, spec, known, [d.name for d in devices]),
        notes=(*baseline_check.notes(parsed, placements), *time_limits.notes(spec)),
    )


def _placer(farm: FarmContext, session: Session, spec: SweepSpec) -> Placer:
    """Places single configurations as ``_plan`` does, for cells that were skipped before."""
    models = {m.name: _model_view(m) for m in session.scalars(select(Model))}
    rows = session.scalars(select(Device)).all()
    builders = [_builder(farm, d) for d in rows if is_builder(d.tags, d.enabled)]
    ways: Ways = {}

    def place_one(device: Device, configuration: Configuration) -> Placement:
        model = models.get(configuration.model)
        if model is None:
            gone = f"there is no model {configuration.model!r} any more"
            return Placement(device.name, configuration, skip=gone)
        board = boards.placement_device(device)
        placed = place(board, configuration, model, builders, ways)
        return time_limits.if_in_time(placed, spec, device)

    return place_one


def _choose_devices(rows: Sequence[Device], parsed: ParsedYaml[SweepSpec]) -> list[PlacementDevice]:
    known, spec = [boards.placement_device(d) for d in rows], parsed.value
    for index, name in enumerate(spec.devices.names):
        if name not in {d.name for d in known}:
            where = f"{parsed.where('devices', 'names', index)}: devices.names: "
            raise NotFound("device", name, [d.name for d in known], where)
    devices = chosen(known, spec.devices)
    if not devices:
        wanted = ", ".join(f"{k}={v}" for k, v in spec.devices.select.items()) or "any"
        listed = ", ".join(f"{d.name} (class={d.labels['class']})" for d in known)
        raise UserError(
            f"{parsed.where('devices')}: devices: no device matches {wanted}; "
            f"the farm has {listed or 'none yet'}"
        )
    return devices


def _refuse_unknown_backends(
    parsed: ParsedYaml[SweepSpec], devices: Sequence[PlacementDevice]
) -> None:
    """A board that has not reported yet may know every backend that benchfarm has."""
    reported = {r.backend for d in devices for r in d.runtimes}
    silent = not all(d.runtimes for d in devices)
    known = sorted(reported | (set(registry.backend_names()) if silent else set()))
    for index, runtime in enumerate(parsed.value.runtimes):
        if runtime.backend not in known:
            raise UserError(
                f"{parsed.where('runtimes', index)}: runtimes: unknown backend "
                f"{runtime.backend!r}; the chosen devices know "
                f"{', '.join(known)}"
            )


def _builder(farm: FarmContext, device: Device) -> BuilderDevice:
    facts = facts_of(device)
    ready = online(farm, device.seen_at) and device.health not in ILL
    return BuilderDevice(device.name, facts.tools if facts else (), ready)


def _model_view(model: Model) -> PlacementModel:
    return PlacementModel(
        name=model.name,
        sources=sources_of((a.format, a.precision) for a in model.artifacts),
        free_batch=model.free_batch,
        has_calibration=bool(model.dataset and model.dataset["calibration_samples"]),
        has_dataset=model.dataset is not None,
    )


def _planned_cell(placement: Placement, spec: SweepSpec, estimator: Estimator) -> PlannedCell:
    estimate = Estimate(0.0, 0.0, "") if placement.skip else estimator.estimate(placement, spec)
    return PlannedCell(
        device=placement.device,
        model=placement.configuration.model,
        label=placement.configuration.label,
        format=placement.format,
        version=placement.version,
        built=placement.build.described if placement.build else "",
        skip=placement.skip,
        trials=0 if placement.skip else spec.trials,
        estimate_s=estimate.trial_s,
        convert_s=estimate.convert_s,
        estimate_from=estimate.basis,
    )


def cancel(farm: FarmContext, name: str) -> SweepView:
    """Stop a sweep: pending trials do not run, running children are killed by their agents.

    Doorbells make those agents ask at once; where one is lost, the next heartbeat tells them.
    """
    with farm.database.transaction() as session:
        sweep = lock_sweep(session, find(session, name).id)
        running = _outstanding_attempts(session, sweep)
        # one statement: 50 000 single updates would take longer than a lease
        cancelled = update(Trial).where(Trial.sweep_id == sweep.id, _state_is_in(before(CANCELLED)))
        session.execute(cancelled.values(state=CANCELLED.value), execution_options=NO_SESSION_SYNC)
        finish_sweep(farm, session, sweep)
        farm.record_event(session, "sweep_cancelled", name)
        view = sweep_view(farm, session, sweep)
    publish_doorbells(farm, running)
    return view


def _outstanding_attempts(session: Session, found: Sweep) -> list[tuple[str, str]]:
    """Device name and id of each attempt that is with its device."""
    rows = session.execute(
        select(Device.name, Attempt.id)
        .join(Trial, Trial.device_id == Device.id)
        .join(Attempt, (Attempt.trial_id == Trial.id) & (Attempt.number == Trial.attempt))
        .where(Trial.sweep_id == found.id, Trial.state.in_([s.value for s in OUTSTANDING]))
    )
    return [(device, attempt_id) for device, attempt_id in rows]


def publish_doorbells(farm: FarmContext, attempts: Sequence[tuple[str, str]]) -> None:
    for device, attempt_id in attempts:
        try:
            farm.publish_doorbell(device, attempt_id)
        except Exception as error:  # noqa: BLE001  the broker's client raises many kinds
            log.warning("cancelled attempts wait for their heartbeats: %s", error)
            return  # the broker is down for all of them


def resume(farm: FarmContext, name: str) -> SweepView:
    """Make failed and cancelled trials pending again, and plan skipped cells anew; results are
    kept.

    Trials of retired devices, and those that wait for their builds, stay as they are.

    Raises:
        Conflict: its raw samples were pruned, so no report could show both.
    """
    with farm.database.transaction() as session:
        sweep = find(session, name)
        missing = (Trial.sweep_id == sweep.id, _state_is_in(RESUMABLE))
        device_ids = set(session.scalars(select(Trial.device_id).where(*missing).distinct()))
        retired_ids = {d.id for d in session.scalars(select(Device)) if retired(d)}
        spec = SweepSpec.model_validate(sweep.spec)
        place_now = _placer(farm, session, spec)
        device_ids |= _devices_that_run(session, replan(session, sweep, place_now))
        health_checks.request_checks_before_sweep(farm, session, name, device_ids - retired_ids)
        sweep = lock_sweep(session, sweep.id)
        retired_builds = select(Trial.id).where(
            Trial.sweep_id == sweep.id, Trial.device_id.in_(retired_ids)
        )
        waits_for_retired = Trial.waits_for.is_not(None) & Trial.waits_for.in_(retired_builds)
        resumed = update(Trial).where(
            *missing, Trial.device_id.not_in(retired_ids), ~waits_for_retired
        )
        # a new budget of attempts; the fencing token goes on counting
        pending = resumed.values(state=TrialState.PENDING.value, spent=0, not_before=None)
        count = session.execute(pending, execution_options=NO_SESSION_SYNC).rowcount  # type: ignore[attr-defined]
        # again, under the sweep's lock: two who resume at once must not both fill a cell
        replanned = replan(session, sweep, place_now)
        filled = sum(1 for _, placement in replanned if not placement.skip)
        if (count or filled) and report_data.frozen_event(session, sweep) is not None:
            raise Conflict(
                f"the raw samples of sweep {name!r} were pruned: run it anew under another --name"
            )
        replanning.write(farm, session, sweep, spec, replanned)
        if count or filled:
            sweep.finished_at = None
            farm.record_event(session, "sweep_resumed", name, trials=count, cells=filled)
        return sweep_view(farm, session, sweep)


def _devices_that_run(session: Session, replanned: Sequence[tuple[Cell, Placement]]) -> set[int]:
    """The devices of the cells that can run now, and their builders."""
    running = [placement for _, placement in replanned if not placement.skip]
    names = {p.device for p in running} | {p.build.builder for p in running if p.build}
    return set(session.scalars(select(Device.id).where(Device.name.in_(names))))


def _state_is_in(states: Iterable[TrialState]) -> ColumnElement[bool]:
    return Trial.state.in_([state.value for state in states])
