"""Progress of sweeps: counts by state, running trials, problems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from agent.contract import codec
from agent.contract.trial import Failure, TrialResult
from orchestrator.domain.errors import NotFound
from orchestrator.domain.failure_cause import whose
from orchestrator.domain.health import ILL
from orchestrator.domain.placement import out_of_service
from orchestrator.domain.trial import OUTSTANDING, TrialState
from orchestrator.service.context import FarmContext
from orchestrator.service.device_state import online
from orchestrator.service.sweeps import boards
from orchestrator.service.trials import builds, circuit_breaker
from orchestrator.service.views import SweepView, TrialProgress
from orchestrator.store.tables import SWEEP, Attempt, Cell, Device, Sweep, Trial


def sweeps(farm: FarmContext) -> list[SweepView]:
    with farm.database.read_session() as session:
        found = session.scalars(select(Sweep).where(Sweep.kind == SWEEP).order_by(Sweep.id))
        return [sweep_view(farm, session, s) for s in found]


def sweep(farm: FarmContext, name: str) -> SweepView:
    with farm.database.read_session() as session:
        return sweep_view(farm, session, find(session, name))


def find(session: Session, name: str) -> Sweep:
    """Raises ``NotFound``."""
    shown = Sweep.kind == SWEEP
    found = session.scalar(select(Sweep).where(shown, Sweep.name == name))
    if found is None:
        raise NotFound("sweep", name, list(session.scalars(select(Sweep.name).where(shown))))
    return found


def sweep_view(farm: FarmContext, session: Session, found: Sweep) -> SweepView:
    session.flush()
    counts, builds_ = _counts(session, found)
    of_sweep = (Cell.sweep_id == found.id, Cell.build_key == "")
    rows = session.execute(select(Cell.device_id, Cell.skip).where(*of_sweep)).all()
    skips: list[tuple[int, str]] = [(device_id, skip) for device_id, skip in rows]
    left_out = _left_out(session, skips)
    waiting = select(Trial.device_id).where(
        Trial.sweep_id == found.id, Trial.state == TrialState.PENDING.value
    )
    query = select(Device).where(Device.id.in_(waiting)).order_by(Device.name)
    devices = session.scalars(query).all()
    return SweepView(
        name=found.name,
        state=state_of(found, counts),
        created_at=found.created_at,
        finished_at=found.finished_at,
        cells=len(skips),
        skipped=sum(1 for _, skip in skips if skip),
        trials=sum(counts.values()),
        counts=counts,
        builds=builds_,
        running=_progress(session, found, [s.value for s in OUTSTANDING]),
        problems=[
            *_given_up(session, found),
            *_progress(session, found, ["failed", "invalid", "unsupported"]),
        ],
        offline=[d.name for d in devices if not online(farm, d.seen_at)],
        held={d.name: boards.hold_reason(d) for d in devices if d.health in ILL},
        drained={d.name: d.drain_note for d in devices if not d.enabled},
        left_out={device.name: why for device, why in left_out},
        returned=[d.name for d, _ in left_out if not out_of_service(boards.placement_device(d))],
        owner=found.owner,
    )


def _left_out(session: Session, skips: Sequence[tuple[int, str]]) -> list[tuple[Device, str]]:
    """Each device none of whose cells is run, with the reasons, by name."""
    of_device: dict[int, list[str]] = defaultdict(list)
    for device_id, skip in skips:
        of_device[device_id].append(skip)
    found = {key: boards.reasons(why) for key, why in of_device.items() if all(why)}
    if not found:
        return []
    devices = session.scalars(select(Device).where(Device.id.in_(found)).order_by(Device.name))
    return [(device, found[device.id]) for device in devices]


def _counts(session: Session, found: Sweep) -> tuple[dict[str, int], dict[str, int]]:
    """State → number of trials: of those that measure, and of those that build."""
    builds_ = Cell.build_key != ""
    rows = session.execute(
        select(builds_, Trial.state, func.count())
        .join(Cell, Trial.cell_id == Cell.id)
        .where(Trial.sweep_id == found.id)
        .group_by(builds_, Trial.state)
    ).all()
    return (
        {state: number for building, state, number in rows if not building},
        {state: number for building, state, number in rows if building},
    )


def state_of(found: Sweep, counts: dict[str, int]) -> str:
    """``running``, or, once every trial has ended, ``cancelled``, ``failed`` or ``done``."""
    if found.finished_at is None:
        return "running"
    if counts.get(TrialState.CANCELLED):
        return "cancelled"
    return "failed" if counts.get(TrialState.FAILED) else "done"


def _progress(session: Session, found: Sweep, states: list[str]) -> list[TrialProgress]:
    rows = session.execute(
        select(Trial, Cell, Device.name, Attempt)
        .join(Cell, Trial.cell_id == Cell.id)
        .join(Device, Trial.device_id == Device.id)
        .outerjoin(Attempt, (Attempt.trial_id == Trial.id) & (Attempt.number == Trial.attempt))
        .join(Sweep, Trial.sweep_id == Sweep.id)
        .where(
            Trial.sweep_id == found.id,
            Trial.state.in_(states),
            ~and_(*circuit_breaker.not_run_conditions()),
        )
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
            build=bool(cell.build_key),
            **_message_and_fault(session, row, attempt),
        )
        for row, cell, device, attempt in rows
    ]


def _given_up(session: Session, found: Sweep) -> list[TrialProgress]:
    """One trial of each cell that was given up, for all of its trials that were not run."""
    not_run = (Trial.sweep_id == found.id, *circuit_breaker.not_run_conditions())
    last = (
        select(func.max(Trial.id))
        .join(Sweep, Trial.sweep_id == Sweep.id)
        .where(*not_run)
        .group_by(Trial.cell_id)
        .order_by(Trial.cell_id)
        .limit(20)
    )
    rows = session.execute(
        select(Trial, Cell, Device.name)
        .join(Cell, Trial.cell_id == Cell.id)
        .join(Device, Trial.device_id == Device.id)
        .where(Trial.id.in_(last))
        .order_by(Trial.cell_id)
    )
    return [
        TrialProgress(
            cell=str(cell.configuration["label"]),
            device=device,
            number=row.number,
            attempt=row.attempt,
            state=row.state,
            message=circuit_breaker.NOT_RUN,
        )
        for row, cell, device in rows
    ]


def _message_and_fault(session: Session, row: Trial, attempt: Attempt | None) -> dict[str, str]:
    """``message`` and ``fault`` of a trial: its failure, and whose fault it is."""
    if row.waits_for is not None and attempt is None:
        failure = builds.result_of_failed_build(session, row.waits_for).failure
    elif circuit_breaker.was_lost(row, attempt):
        failure = circuit_breaker.result_of_lost_trial(row).failure
    else:
        given = attempt and attempt.result
        failure = codec.from_plain(TrialResult, given).failure if given else None
    if failure is None:
        return {"message": ""}
    return {"message": _one_line(failure), "fault": whose(failure).value}


def _one_line(failure: Failure) -> str:
    return f"{failure.stage}: {failure.kind}: {failure.message}"[:300]
