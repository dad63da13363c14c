"""The device's side of an attempt: start it, renew it, take its result. Idempotent throughout."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from agent import codec
from agent.contract import SCHEMA, STATUSES, TrialRequest, TrialResult
from agent.uplink_messages import Heartbeat, HeartbeatAnswer, Started
from orchestrator.domain import retry
from orchestrator.domain.errors import Superseded, UnknownAttempt, UserError
from orchestrator.domain.trial import OUTSTANDING, TrialState, after_result
from orchestrator.service import builds, closing, health
from orchestrator.service.dispatch import dispatch, has_work
from orchestrator.service.farm import Farm
from orchestrator.service.trials import apply, finish_if_done, lifecycle_of, lock
from orchestrator.store import references
from orchestrator.store.models import HEALTH, Attempt, Cell, Device, Sweep, Trial

SUPERSEDED = "superseded"
"""Note on an attempt whose result came too late to count."""

FAR_OFF_NS = 10**18
"""A clock that is further off is not told from this: its number could be any."""


def start(farm: Farm, device_id: int, attempt_id: str) -> Started:
    """Lease an attempt to its device and say what to do. Asking twice gives the same answer.

    Raises:
        UnknownAttempt: no such attempt, or another device's.
        Superseded: a later attempt exists, or the trial ended or was cancelled.
    """
    with farm.database.transaction() as session:
        attempt, trial = _current(session, device_id, attempt_id)
        if trial.state == TrialState.DISPATCHED.value:
            apply(trial, lifecycle_of(trial).to(TrialState.RUNNING))
            attempt.started_at = farm.now()
        attempt.lease_until = farm.now() + timedelta(seconds=farm.settings.lease_s)
        cell = session.get_one(Cell, trial.cell_id)
        request = codec.from_plain(TrialRequest, cell.request)
    filled = replace(request, attempt_id=attempt_id, trial_id=str(trial.id))
    return Started(farm.settings.lease_s, filled)


def heartbeat(farm: Farm, device_id: int, beat: Heartbeat) -> HeartbeatAnswer:
    """Note that a device lives; renew the lease of the attempt that it says it is executing."""
    renewed = cancel = work = False
    with farm.database.transaction() as session:
        device = session.get_one(Device, device_id)
        device.seen_at = farm.now()
        device.agent_version = beat.agent_version
        device.storage_free_mib = beat.storage_free_mib
        device.temperature_c = beat.temperature_c
        device.clock_skew_s = _skew_s(farm, beat)
        if beat.attempt_id:
            try:
                attempt, _trial = _current(session, device_id, beat.attempt_id)
            except (UnknownAttempt, Superseded):
                cancel = True
            else:
                attempt.lease_until = farm.now() + timedelta(seconds=farm.settings.lease_s)
                renewed = True
        else:
            work = has_work(farm, session, device_id)
    if work:
        dispatch(farm, device_id)
    return HeartbeatAnswer(renewed, cancel, farm.settings.heartbeat_s, farm.settings.lease_s)


def _skew_s(farm: Farm, beat: Heartbeat) -> float | None:
    """The board's clock minus the controller's, the way of the beat included."""
    if not beat.at_unix_ns:
        return None
    skew_ns = beat.at_unix_ns - int(farm.now().timestamp() * 1e9)
    return max(-FAR_OFF_NS, min(FAR_OFF_NS, skew_ns)) / 1e9


def result(farm: Farm, device_id: int, attempt_id: str, given: TrialResult) -> None:
    """Take an attempt's result, once; the same result again is acknowledged and changes nothing.

    Raises:
        UnknownAttempt: no such attempt, or another device's.
        Superseded: it counts nowhere; it is kept with its attempt for inspection.
        UserError: it names another attempt, or contradicts itself.
        BlobGone: its samples, or what it built, were not uploaded; the agent sends both again.
    """
    with farm.database.snapshot() as session:  # first: a stranger is not told which blobs are here
        _own(session, device_id, attempt_id)
    _check(attempt_id, given)
    try:
        with farm.database.transaction() as session:
            references.hold(session, farm.blobs, _blobs_of(given))
            _accept(farm, session, device_id, attempt_id, given)
    except Superseded:
        with farm.database.transaction() as session:
            references.hold(session, farm.blobs, _blobs_of(given))
            attempt = session.get_one(Attempt, attempt_id)
            attempt.result, attempt.note = codec.to_plain(given), SUPERSEDED
        raise
    health.settle(farm, device_id)
    health.after_failure(farm, attempt_id, given.failure)
    dispatch(farm, device_id)


def _locked(session: Session, device_id: int, attempt_id: str) -> tuple[Attempt, Sweep]:
    """The attempt as it is now that its sweep is locked. Raises ``UnknownAttempt``."""
    sweep_id = session.scalar(
        select(Trial.sweep_id)
        .join(Attempt, Attempt.trial_id == Trial.id)
        .where(Attempt.id == attempt_id, Attempt.device_id == device_id)
    )
    if sweep_id is None:
        raise UnknownAttempt(f"this device has no attempt {attempt_id!r}")
    sweep = lock(session, sweep_id)
    return _own(session, device_id, attempt_id), sweep


def _check(attempt_id: str, given: TrialResult) -> None:
    if given.attempt_id != attempt_id:
        raise UserError(f"the result names attempt {given.attempt_id}, not {attempt_id}")
    if given.schema != SCHEMA:
        raise UserError(f"a result of schema {given.schema}; this controller speaks {SCHEMA}")
    if given.status not in STATUSES:
        raise UserError(f"unknown status {given.status!r}; accepted: {', '.join(STATUSES)}")
    if given.status == "ok" and (
        (given.samples is None) == (given.built is None) or given.failure is not None
    ):
        raise UserError("a result of status ok has samples, or what was built, and no failure")
    if given.status != "ok" and given.failure is None:
        raise UserError(f"a result of status {given.status} says why in its failure")


def _blobs_of(given: TrialResult) -> list[str]:
    return [blob.sha256 for blob in (given.samples, given.built) if blob is not None]


def _accept(
    farm: Farm, session: Session, device_id: int, attempt_id: str, given: TrialResult
) -> None:
    attempt, sweep = _locked(session, device_id, attempt_id)
    if attempt.result is not None and attempt.note != SUPERSEDED:
        return
    attempt, trial = _current(session, device_id, attempt_id)
    builds.check(session.get_one(Cell, trial.cell_id), given)
    before = lifecycle_of(trial)
    if before.state is TrialState.DISPATCHED:  # the start's answer was lost on the way
        before = before.to(TrialState.RUNNING)
    after = before.to(after_result(before, given.status, given.failure, sweep.attempts))
    apply(trial, after)
    attempt.result, attempt.ended_at = codec.to_plain(given), farm.now()
    # a transient failure is kept with its attempt, but the trial's result is still to come
    attempt.accepted = after.state is not TrialState.PENDING
    if attempt.accepted and attempt.number > 1:
        _outdate(session, attempt)
    if after.state is TrialState.PENDING:
        checks = sweep.kind == HEALTH
        wait = health.AGAIN_AFTER if checks else retry.pause(after.spent, attempt_id)
        trial.not_before = farm.now() + wait
    if after.state is TrialState.UNSUPPORTED:
        _close_cell(session, trial)
    if after.state is TrialState.FAILED and sweep.kind != HEALTH:
        closing.give_up(farm, session, sweep.name, trial.cell_id)
    builds.settle(session, trial, given)
    if sweep.kind == HEALTH:
        return
    farm.note(
        session,
        "trial_ended",
        str(trial.id),
        sweep=sweep.name,
        attempt=attempt.number,
        state=after.state.value,
    )
    finish_if_done(farm, session, trial.sweep_id, trial.device_id)


def _outdate(session: Session, counted: Attempt) -> None:
    """What counted before a resume counts no more: a trial has one accepted result."""
    earlier = (Attempt.trial_id == counted.trial_id, Attempt.id != counted.id, Attempt.accepted)
    session.execute(update(Attempt).where(*earlier).values(accepted=False))


def _close_cell(session: Session, trial: Trial) -> None:
    """``unsupported`` is a property of the cell: its other pending trials need not run."""
    others = select(Trial).where(
        Trial.cell_id == trial.cell_id, Trial.state == TrialState.PENDING.value
    )
    for other in session.scalars(others):
        apply(other, lifecycle_of(other).to(TrialState.UNSUPPORTED))


def _own(session: Session, device_id: int, attempt_id: str) -> Attempt:
    attempt = session.get(Attempt, attempt_id)
    if attempt is None or attempt.device_id != device_id:
        raise UnknownAttempt(f"this device has no attempt {attempt_id!r}")
    return attempt


def _current(session: Session, device_id: int, attempt_id: str) -> tuple[Attempt, Trial]:
    attempt = _own(session, device_id, attempt_id)
    trial = session.get_one(Trial, attempt.trial_id, with_for_update=True)
    state = TrialState(trial.state)
    if trial.attempt != attempt.number or state not in OUTSTANDING:
        raise Superseded(
            f"attempt {attempt.number} of trial {trial.id} is over: the trial is {state} "
            f"and its last attempt is {trial.attempt}"
        )
    return attempt, trial
