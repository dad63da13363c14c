"""The device's side of an attempt: start it, renew it, take its result. Idempotent throughout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import Row, Table, bindparam, select, update
from sqlalchemy.orm import Session

from agent.contract import codec
from agent.contract.api_messages import Heartbeat, HeartbeatAnswer, Started
from agent.contract.trial import SCHEMA, STATUSES, TrialRequest, TrialResult
from orchestrator.domain import retry
from orchestrator.domain.errors import Superseded, UnknownAttempt, UserError
from orchestrator.domain.trial import TrialState, after_result
from orchestrator.service import rate_control
from orchestrator.service.context import EVENT, FarmContext
from orchestrator.service.health import health_checks
from orchestrator.service.scheduling.dispatch import (
    ClaimedAttempt,
    claim,
    dispatch,
    has_work,
    hold,
    ring,
)
from orchestrator.service.trials import attempt_queries, builds, circuit_breaker, completion
from orchestrator.service.trials.transitions import apply, finish_if_done, lifecycle_of, lock
from orchestrator.store import blob_references
from orchestrator.store.tables import HEALTH, Attempt, Cell, Device, Trial

SUPERSEDED = "superseded"
"""Note on an attempt whose result came too late to count."""

FAR_OFF_NS = 10**18
"""A clock that is further off is not told from this: its number could be any."""


def start(farm: FarmContext, device_id: int, attempt_id: str) -> Started:
    """Lease an attempt to its device and say what to do. Asking twice gives the same answer.

    Raises:
        UnknownAttempt: no such attempt, or another device's.
        Superseded: a later attempt exists, or the trial ended or was cancelled.
    """
    lease_s = rate_control.present(farm).lease_s
    with farm.database.change() as connection:
        found, request = attempt_queries.asked(connection, device_id, attempt_id)
        until = farm.now() + timedelta(seconds=lease_s)
        if found.trial.state is TrialState.DISPATCHED:
            attempt_queries.begin(farm, connection, found, until)
        else:
            attempt_queries.change(connection, attempt_id, {"lease_until": until})
    asked = codec.from_plain(TrialRequest, request)
    filled = replace(asked, attempt_id=attempt_id, trial_id=found.trial.id)
    return Started(lease_s, filled)


def heartbeat(farm: FarmContext, device_id: int, beat: Heartbeat) -> HeartbeatAnswer:
    """Note that a device lives; renew the lease of the attempt that it says it is executing."""
    renewed = cancel = work = False
    told = rate_control.present(farm)
    with farm.database.change() as connection:
        heard = {
            "seen_at": farm.now(),
            "agent_version": beat.agent_version,
            "storage_free_mib": beat.storage_free_mib,
            "temperature_c": beat.temperature_c,
            "clock_skew_s": _skew_s(farm, beat),
        }
        connection.execute(_HEARD, {"device": device_id, **heard})
        if beat.attempt_id:
            try:
                attempt_queries.current(connection, device_id, beat.attempt_id)
            except (UnknownAttempt, Superseded):
                cancel = True
            else:
                until = farm.now() + timedelta(seconds=told.lease_s)
                attempt_queries.change(connection, beat.attempt_id, {"lease_until": until})
                renewed = True
        elif farm.memory.room:
            work = has_work(farm, connection, device_id)
    if work:
        dispatch(farm, device_id)
    return HeartbeatAnswer(renewed, cancel, told.heartbeat_s, told.lease_s)


def _skew_s(farm: FarmContext, beat: Heartbeat) -> float | None:
    """The board's clock minus the controller's, the way of the beat included."""
    if not beat.at_unix_ns:
        return None
    skew_ns = beat.at_unix_ns - int(farm.now().timestamp() * 1e9)
    return max(-FAR_OFF_NS, min(FAR_OFF_NS, skew_ns)) / 1e9


def result(farm: FarmContext, device_id: int, attempt_id: str, given: TrialResult) -> None:
    """Take an attempt's result, once; the same result again is acknowledged and changes nothing.

    Raises:
        UnknownAttempt: no such attempt, or another device's.
        Superseded: it counts nowhere; it is kept with its attempt for inspection.
        UserError: it names another attempt, or contradicts itself.
        BlobGone: its samples, or what it built, were not uploaded; the agent sends both again.
    """
    try:
        taken = _take(farm, device_id, attempt_id, given, alone=not _is_plain(given))
    except Superseded:
        with farm.database.transaction() as session:
            blob_references.hold(session, farm.blobs, _blobs_of(given))
            attempt = session.get_one(Attempt, attempt_id)
            attempt.result, attempt.note = codec.to_plain(given), SUPERSEDED
        raise
    if taken.plain:
        if taken.next is not None:
            ring(farm, taken.next)
        if taken.next is None or taken.next.sweep_id != taken.sweep_id:
            completion.close_if_done(farm, taken.sweep_id)
        return
    health_checks.settle(farm, device_id)
    health_checks.after_failure(farm, attempt_id, given.failure)
    dispatch(farm, device_id)


def _is_plain(given: TrialResult) -> bool:
    """Such a result closes its own trial, and touches no other."""
    return given.status == "ok" and given.built is None


@dataclass(frozen=True)
class _Taken:
    """``plain``: it was taken now, of a sweep's measurement that went well; ``next`` is then what
    its device was given at once."""

    plain: bool
    sweep_id: int
    next: ClaimedAttempt | None = None


def _take(
    farm: FarmContext, device_id: int, attempt_id: str, given: TrialResult, *, alone: bool
) -> _Taken:
    """Accept a result, and claim the device's next trial in the same transaction where no health
    check has a say in that. ``alone``: with the sweep, and closed with it. Raises as ``result``."""
    with farm.database.transaction() as session:
        # first: a stranger is not told which blobs are here
        if not alone:
            sweep, device = attempt_queries.hold_beside_others(session, device_id, attempt_id)
            _check(attempt_id, given)
            blob_references.require_here(farm.blobs, _blobs_of(given))
            new = _accept(farm, session, sweep, device_id, attempt_id, given)
            if not new or sweep.kind == HEALTH:
                return _Taken(False, sweep.id)
            return _Taken(True, sweep.id, claim(farm, session, device))
        sweep = attempt_queries.sweep_of(session, device_id, attempt_id)
        _check(attempt_id, given)
        if hold(session, device_id) is None:
            raise UnknownAttempt(f"this device has no attempt {attempt_id!r}")
        blob_references.hold(session, farm.blobs, _blobs_of(given))
        lock(session, sweep.id)
        if _accept(farm, session, sweep, device_id, attempt_id, given) and sweep.kind != HEALTH:
            finish_if_done(farm, session, sweep.id, device_id)
        return _Taken(False, sweep.id)


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


def keep_samples(
    farm: FarmContext, device_id: int, attempt_id: str, given: TrialResult, samples: bytes
) -> None:
    """Store the samples that a result brings along, as an upload would, before it is taken itself.

    Nothing is stored where this raises:
        UnknownAttempt: no such attempt, or another device's.
        UserError: they are not those that the result names; or as ``result``.
    """
    with farm.database.look() as connection:
        attempt_queries.require_own(connection, device_id, attempt_id)
    _check(attempt_id, given)
    named = given.samples
    if named is None:
        raise UserError("the result brings samples along, but names none")
    if named.size_bytes != len(samples):
        raise UserError(
            f"the result names samples of {named.size_bytes} bytes, but brings {len(samples)} along"
        )
    farm.blobs.take(named.sha256, samples)


def _blobs_of(given: TrialResult) -> list[str]:
    return [blob.sha256 for blob in (given.samples, given.built) if blob is not None]


def _accept(
    farm: FarmContext,
    session: Session,
    sweep: Row[Any],
    device_id: int,
    attempt_id: str,
    given: TrialResult,
) -> bool:
    """False where the result had been accepted before. The caller has locked the sweep, and sees
    to its end. Raises as ``result``."""
    found = attempt_queries.found(session, device_id, attempt_id)
    if found.answered and found.note != SUPERSEDED:
        return False
    found.require_current()
    if found.build_key or given.built is not None:
        builds.check(session.get_one(Cell, found.cell_id), given)
    before = found.trial
    if before.state is TrialState.DISPATCHED:  # the start's answer was lost on the way
        before = before.to(TrialState.RUNNING)
    after = before.to(after_result(before, given.status, given.failure, sweep.attempts))
    again = after.state is TrialState.PENDING
    wait = (
        health_checks.AGAIN_AFTER if sweep.kind == HEALTH else retry.pause(after.spent, attempt_id)
    )
    pause = {"not_before": farm.now() + wait} if again else {}
    ended = farm.event(
        "trial_ended",
        found.trial.id,
        sweep=sweep.name,
        attempt=found.number,
        state=after.state.value,
    )
    if _is_plain(given) and sweep.kind != HEALTH:
        attempt_queries.answer(farm, session, found, after, codec.to_plain(given), ended)
        if found.number > 1:
            _outdate(session, found)
        return True
    attempt_queries.move(session, found.trial_id, after, **pause)
    # a transient failure is kept with its attempt, but the trial's result is still to come
    answer = {"result": codec.to_plain(given), "ended_at": farm.now(), "accepted": not again}
    attempt_queries.change(session.connection(), attempt_id, answer)
    if not again and found.number > 1:
        _outdate(session, found)
    if after.state is TrialState.UNSUPPORTED:
        _close_cell(session, found)
    if after.state is TrialState.FAILED and sweep.kind != HEALTH:
        circuit_breaker.give_up(farm, session, sweep.name, found.cell_id)
    if found.build_key:
        builds.settle(session, session.get_one(Trial, found.trial_id), given)
    if sweep.kind != HEALTH:
        session.connection().execute(EVENT, ended)
    return True


def _outdate(session: Session, counted: attempt_queries.LockedAttempt) -> None:
    """What counted before a resume counts no more: a trial has one accepted result."""
    earlier = (Attempt.trial_id == counted.trial_id, Attempt.id != counted.id, Attempt.accepted)
    session.execute(update(Attempt).where(*earlier).values(accepted=False))


def _close_cell(session: Session, found: attempt_queries.LockedAttempt) -> None:
    """``unsupported`` is a property of the cell: its other pending trials need not run."""
    others = select(Trial).where(
        Trial.cell_id == found.cell_id, Trial.state == TrialState.PENDING.value
    )
    for other in session.scalars(others):
        apply(other, lifecycle_of(other).to(TrialState.UNSUPPORTED))


_devices = cast(Table, Device.__table__)
_HEARD = update(_devices).where(_devices.c.id == bindparam("device"))
