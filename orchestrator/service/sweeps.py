"""Sweeps: plan, submit, watch, cancel, resume."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from agent import codec
from agent.contract import (
    SCHEMA,
    DatasetRef,
    Failure,
    ReferenceRef,
    RuntimeRef,
    TrialRequest,
    TrialResult,
)
from orchestrator.domain import trial as lifecycle
from orchestrator.domain.errors import Conflict, NotFound, UserError
from orchestrator.domain.matrix import count, expand, interleave
from orchestrator.domain.placement import DeviceView, ModelView, Placement, chosen, place
from orchestrator.domain.spec import SweepSpec, parse
from orchestrator.domain.trial import FINAL, OUTSTANDING, RESUMABLE, TrialState
from orchestrator.service import models, register
from orchestrator.service.estimate import Estimator
from orchestrator.service.farm import Farm
from orchestrator.service.views import PlannedCell, PlanView, SweepView, TrialProgress
from orchestrator.store.models import Attempt, Cell, Device, Model, Sweep, Trial


@dataclass(frozen=True)
class Planned:
    """A spec against the farm as it is now."""

    spec: SweepSpec
    placements: tuple[Placement, ...]

    @property
    def running(self) -> list[Placement]:
        return [p for p in self.placements if not p.skip]


def plan(farm: Farm, text: str, source: str, name: str = "") -> PlanView:
    """What a sweep would run, where, what it would skip and why, how long it should take.

    Raises:
        UserError: as ``submit``.
    """
    with farm.database.transaction() as session:
        planned = _plan(farm, session, text, source, name)
        estimator = Estimator(session)
        cells = [_planned_cell(p, planned.spec, estimator) for p in planned.placements]
    busy: dict[str, float] = defaultdict(float)
    for cell in cells:
        busy[cell.device] += cell.estimate_s * cell.trials
    return PlanView(
        name=planned.spec.name,
        cells=cells,
        trials=sum(c.trials for c in cells),
        estimate_s=max(busy.values(), default=0.0),
    )


def submit(farm: Farm, text: str, source: str, name: str = "") -> SweepView:
    """Turn a spec into cells and pending trials, all in one transaction.

    Raises:
        UserError: a bad spec, an unknown model or backend, no device that matches, nothing to run.
        Conflict: a sweep of that name exists.
    """
    with farm.database.transaction() as session:
        planned = _plan(farm, session, text, source, name)
        if not planned.running:
            reasons = "; ".join(sorted({p.skip for p in planned.placements}))
            raise UserError(f"{source}: no cell of this sweep can run: {reasons}")
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
        )
        session.add(sweep)
        _add_cells(session, sweep, planned)
        farm.note(session, "sweep_submitted", sweep.name, cells=len(planned.placements))
        session.flush()
        return sweep_view(farm, session, sweep)


def _plan(farm: Farm, session: Session, text: str, source: str, name: str) -> Planned:
    spec = parse(text, source, name)
    by_name = {m.name: m for m in session.scalars(select(Model))}
    for choice in spec.models:
        if choice.name not in by_name:
            raise NotFound("model", choice.name, list(by_name))
    devices = _chosen(session, spec, source)
    _refuse_unknown_backends(spec, devices, source)
    total = count(spec) * len(devices)
    if total > farm.settings.max_cells:
        raise UserError(
            f"{source}: {total} cells, more than the limit of {farm.settings.max_cells}; "
            "split the sweep or raise BENCHFARM_MAX_CELLS"
        )
    configurations = expand(spec)
    views = {key: _model_view(m) for key, m in by_name.items()}
    placements = tuple(
        place(device, configuration, views[configuration.model])
        for device in devices
        for configuration in configurations
    )
    return Planned(spec, placements)


def _chosen(session: Session, spec: SweepSpec, source: str) -> list[DeviceView]:
    known = [_device_view(d) for d in session.scalars(select(Device))]
    for name in spec.devices.names:
        if name not in {d.name for d in known}:
            raise NotFound("device", name, [d.name for d in known])
    devices = chosen(known, spec.devices)
    if not devices:
        wanted = ", ".join(f"{k}={v}" for k, v in spec.devices.select.items()) or "any"
        listed = ", ".join(f"{d.name} (class={d.labels['class']})" for d in known)
        raise UserError(
            f"{source}: devices: no device matches {wanted}; the farm has {listed or 'none yet'}"
        )
    return devices


def _refuse_unknown_backends(spec: SweepSpec, devices: Sequence[DeviceView], source: str) -> None:
    known = sorted({r.backend for d in devices for r in d.runtimes})
    for runtime in spec.runtimes:
        if runtime.backend not in known:
            raise UserError(
                f"{source}: runtimes: unknown backend {runtime.backend!r}; "
                f"the chosen devices know {', '.join(known) or 'none (no agent has reported)'}"
            )


def _add_cells(session: Session, sweep: Sweep, planned: Planned) -> None:
    """Written in bulk: ten thousand cells one by one would hold SQLite's write lock for longer
    than a lease lasts."""
    devices = {d.name: d.id for d in session.scalars(select(Device))}
    known = {m.name: m for m in session.scalars(select(Model))}
    session.flush()
    rows = [
        _cell_row(sweep, p, devices[p.device], known[p.configuration.model], planned.spec)
        for p in planned.placements
    ]
    session.execute(insert(Cell), rows)
    written = session.scalars(select(Cell.id).where(Cell.sweep_id == sweep.id).order_by(Cell.id))
    per_device: dict[str, list[int]] = defaultdict(list)
    for cell_id, placement in zip(written, planned.placements, strict=True):
        if not placement.skip:
            per_device[placement.device].append(cell_id)
    trials: list[dict[str, int]] = []
    for name, cells in per_device.items():
        order = interleave(cells, planned.spec.trials, f"{planned.spec.seed}/{name}")
        trials += [
            {
                "sweep_id": sweep.id,
                "cell_id": cell_id,
                "device_id": devices[name],
                "number": number,
                "place": turn,
            }
            for turn, (cell_id, number) in enumerate(order)
        ]
    session.execute(insert(Trial), trials)


def _cell_row(
    sweep: Sweep, placement: Placement, device_id: int, model: Model, spec: SweepSpec
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
        },
        "request": None if placement.skip else _request(model, spec, placement),
        "skip": placement.skip,
    }


def _request(model: Model, spec: SweepSpec, placement: Placement) -> dict[str, object]:
    configuration = placement.configuration
    dataset = codec.from_plain(DatasetRef, model.dataset) if model.dataset else None
    request = TrialRequest(
        schema=SCHEMA,
        attempt_id="",
        trial_id="",
        model=models.wire(model, placement.format),
        runtime=RuntimeRef(
            backend=configuration.backend,
            version=placement.version,
            target=configuration.target,
            precision=configuration.precision,
            threads=configuration.threads,
            options=dict(configuration.options),
        ),
        scenario=spec.scenario.at_batch(configuration.batch_size),
        reference=codec.from_plain(ReferenceRef, model.reference),
        tolerance=spec.tolerance_for(configuration.precision),
        dataset=dataset,
        calibration=configuration.calibration,
        limits=spec.limits.wire(),
        seed=spec.seed,
    )
    plain: dict[str, object] = codec.to_plain(request)
    return plain


def _device_view(device: Device) -> DeviceView:
    facts = register.facts_of(device)
    labels = {**device.tags, "name": device.name, "class": device.device_class}
    return DeviceView(device.name, labels, device.enabled, facts.runtimes if facts else ())


def _model_view(model: Model) -> ModelView:
    return ModelView(
        name=model.name,
        formats=frozenset(a.format for a in model.artifacts),
        free_batch=model.free_batch,
        has_calibration=bool(model.dataset and model.dataset["calibration_samples"]),
    )


def _planned_cell(placement: Placement, spec: SweepSpec, estimator: Estimator) -> PlannedCell:
    seconds, source = (0.0, "") if placement.skip else estimator.trial_s(placement, spec)
    return PlannedCell(
        device=placement.device,
        model=placement.configuration.model,
        label=placement.configuration.label,
        format=placement.format,
        version=placement.version,
        skip=placement.skip,
        trials=0 if placement.skip else spec.trials,
        estimate_s=seconds,
        estimate_from=source,
    )


def cancel(farm: Farm, name: str) -> SweepView:
    """Stop a sweep: pending trials will not run, running children are killed by their agents."""
    with farm.database.transaction() as session:
        sweep = lock(session, find(session, name).id)
        for row in _trials(session, sweep):
            if TrialState(row.state) not in FINAL:
                apply(row, lifecycle_of(row).to(TrialState.CANCELLED))
        _finish(farm, session, sweep)
        farm.note(session, "sweep_cancelled", name)
        return sweep_view(farm, session, sweep)


def resume(farm: Farm, name: str) -> SweepView:
    """Run what is missing: failed and cancelled trials become pending; results stay."""
    with farm.database.transaction() as session:
        sweep = lock(session, find(session, name).id)
        again = [t for t in _trials(session, sweep) if TrialState(t.state) in RESUMABLE]
        for row in again:
            apply(row, lifecycle_of(row).to(TrialState.PENDING))
        if again:
            sweep.finished_at = None
            farm.note(session, "sweep_resumed", name, trials=len(again))
        return sweep_view(farm, session, sweep)


def sweeps(farm: Farm) -> list[SweepView]:
    with farm.database.transaction() as session:
        found = session.scalars(select(Sweep).order_by(Sweep.id))
        return [sweep_view(farm, session, s) for s in found]


def sweep(farm: Farm, name: str) -> SweepView:
    with farm.database.transaction() as session:
        return sweep_view(farm, session, find(session, name))


def find(session: Session, name: str) -> Sweep:
    """Raises ``NotFound``."""
    found = session.scalar(select(Sweep).where(Sweep.name == name))
    if found is None:
        raise NotFound("sweep", name, list(session.scalars(select(Sweep.name))))
    return found


def lock(session: Session, sweep_id: int) -> Sweep:
    """The sweep's row, locked until the transaction ends, and as it is now.

    Whoever counts a sweep's trials, or changes several, takes it first: two last results at once
    would each see the other's trial open, and nobody would close the sweep. Always before the
    lock of any trial, so that no two transactions wait for each other.
    """
    return session.get_one(Sweep, sweep_id, with_for_update=True, populate_existing=True)


def finish_if_done(farm: Farm, session: Session, sweep_id: int) -> None:
    """Close a sweep whose every trial is in a final state. The caller has ``lock``ed it."""
    session.flush()
    open_states = [s.value for s in TrialState if s not in FINAL]
    left = session.scalar(
        select(func.count()).where(Trial.sweep_id == sweep_id, Trial.state.in_(open_states))
    )
    if not left:
        _finish(farm, session, session.get_one(Sweep, sweep_id))


def _finish(farm: Farm, session: Session, found: Sweep) -> None:
    if found.finished_at is None:
        found.finished_at = farm.now()
        farm.note(session, "sweep_finished", found.name)


def lifecycle_of(row: Trial) -> lifecycle.Trial:
    """The domain's view of a trial's row."""
    return lifecycle.Trial(str(row.id), TrialState(row.state), row.attempt, row.spent)


def apply(row: Trial, changed: lifecycle.Trial) -> None:
    """Write back what the domain decided."""
    row.state, row.attempt, row.spent = changed.state.value, changed.attempt, changed.spent


def _trials(session: Session, found: Sweep) -> Sequence[Trial]:
    query = select(Trial).where(Trial.sweep_id == found.id).with_for_update()
    return session.scalars(query).all()


def state_of(found: Sweep, counts: dict[str, int]) -> str:
    """``running``, or once every trial is final: ``cancelled``, ``failed`` or ``done``."""
    if found.finished_at is None:
        return "running"
    if counts.get(TrialState.CANCELLED):
        return "cancelled"
    return "failed" if counts.get(TrialState.FAILED) else "done"


def sweep_view(farm: Farm, session: Session, found: Sweep) -> SweepView:
    session.flush()
    rows = session.execute(
        select(Trial.state, func.count()).where(Trial.sweep_id == found.id).group_by(Trial.state)
    )
    counts = dict(rows.all())
    skips = session.scalars(select(Cell.skip).where(Cell.sweep_id == found.id)).all()
    waiting = select(Trial.device_id).where(
        Trial.sweep_id == found.id, Trial.state == TrialState.PENDING.value
    )
    devices = session.scalars(select(Device).where(Device.id.in_(waiting)))
    return SweepView(
        name=found.name,
        state=state_of(found, counts),
        created_at=found.created_at,
        finished_at=found.finished_at,
        cells=len(skips),
        skipped=sum(1 for s in skips if s),
        trials=sum(counts.values()),
        counts=counts,
        running=_progress(session, found, [s.value for s in OUTSTANDING]),
        problems=_progress(session, found, ["failed", "invalid", "unsupported"]),
        offline=sorted(d.name for d in devices if not register.online(farm, d)),
    )


def _progress(session: Session, found: Sweep, states: list[str]) -> list[TrialProgress]:
    rows = session.execute(
        select(Trial, Cell, Device.name, Attempt.result)
        .join(Cell, Trial.cell_id == Cell.id)
        .join(Device, Trial.device_id == Device.id)
        .outerjoin(Attempt, (Attempt.trial_id == Trial.id) & (Attempt.number == Trial.attempt))
        .where(Trial.sweep_id == found.id, Trial.state.in_(states))
        .order_by(Trial.place.desc())
        .limit(20)
    )
    return [
        TrialProgress(
            cell=str(cell.configuration["label"]),
            device=device,
            number=row.number,
            attempt=row.attempt,
            state=row.state,
            message=_message(result),
        )
        for row, cell, device, result in rows
    ]


def _message(result: dict[str, object] | None) -> str:
    failure = codec.from_plain(TrialResult, result).failure if result else None
    return _one_line(failure) if failure else ""


def _one_line(failure: Failure) -> str:
    return f"{failure.stage}: {failure.kind}: {failure.message}"[:300]
