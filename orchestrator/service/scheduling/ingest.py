"""The device's side of an attempt: start it, renew its lease, hand in its result.

Every function may be called again with the same arguments: a device that got no answer asks again.
"""

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
from orchestrator.domain.trial import TrialLifecycle, TrialState, after_result
from orchestrator.service import rate_control
from orchestrator.service.context import INSERT_EVENT, FarmContext
from orchestrator.service.health import health_checks
from orchestrator.service.scheduling.dispatch import (
    ClaimedAttempt,
    claim_next_trial,
    dispatch,
    has_work,
    lock_device,
    publish_doorbell,
)
from orchestrator.service.trials import attempt_queries, builds, circuit_breaker, completion
from orchestrator.service.trials.attempt_queries import LockedAttempt
from orchestrator.service.trials.transitions import (
    apply,
    finish_sweep_if_done,
    lifecycle_of,
    lock_sweep,
)
from orchestrator.store import blob_references
from orchestrator.store.tables import HEALTH, Attempt, Cell, Device, Trial

SUPERSEDED = "superseded"
"""Note on an attempt whose result came too late to count."""

MAX_CLOCK_SKEW_NS = 10**18
"""A larger clock skew is stored as this one."""

_devices = cast(Table, Device.__table__)

# Locks the device's row (1); a heartbeat locks its trial's (4) after it.
UPDATE_DEVICE = update(_devices).where(_devices.c.id == bindparam("device"))


def start_attempt(farm: FarmContext, device_id: int, attempt_id: str) -> Started:
    """Lease an attempt to its device and say what to do. Asking twice gives the same answer.

    Locks the trial's row.

    Raises:
        UnknownAttempt: no such attempt, or another device's.
        Superseded: a later attempt exists, or the trial ended or was cancelled.
    """
    lease_s = rate_control.current_pace(farm).lease_s
    with farm.database.relaxed_transaction() as connection:
        attempt, stored = attempt_queries.lock_current_attempt_with_request(
            connection, device_id, attempt_id
        )
        lease_until = farm.now() + timedelta(seconds=lease_s)
        if attempt.trial.state is TrialState.DISPATCHED:
            attempt_queries.write_start(farm, connection, attempt, lease_until)
        else:
            attempt_queries.update_attempt(connection, attempt_id, {"lease_until": lease_until})
    request = codec.from_plain(TrialRequest, stored)
    return Started(lease_s, replace(request, attempt_id=attempt_id, trial_id=attempt.trial.id))


def record_heartbeat(farm: FarmContext, device_id: int, beat: Heartbeat) -> HeartbeatAnswer:
    """Record that a device lives; renew the lease of the attempt that it says it is executing.

    Locks the device's row, then the trial's.
    """
    renewed = cancel = work = False
    pace = rate_control.current_pace(farm)
    with farm.database.relaxed_transaction() as connection:
        values = {
            "seen_at": farm.now(),
            "agent_version": beat.agent_version,
            "storage_free_mib": beat.storage_free_mib,
            "temperature_c": beat.temperature_c,
            "clock_skew_s": _clock_skew_s(farm, beat),
        }
        connection.execute(UPDATE_DEVICE, {"device": device_id, **values})
        if beat.attempt_id:
            try:
                attempt_queries.lock_current_attempt(connection, device_id, beat.attempt_id)
            except (UnknownAttempt, Superseded):
                cancel = True
            else:
                lease_until = farm.now() + timedelta(seconds=pace.lease_s)
                values = {"lease_until": lease_until}
                attempt_queries.update_attempt(connection, beat.attempt_id, values)
                renewed = True
        elif farm.rate_memory.doorbell_budget:
            work = has_work(farm, connection, device_id)
    if work:
        dispatch(farm, device_id)
    return HeartbeatAnswer(renewed, cancel, pace.heartbeat_s, pace.lease_s)


def _clock_skew_s(farm: FarmContext, beat: Heartbeat) -> float | None:
    """The board's clock minus the controller's, seconds; includes the message's travel time."""
    if not beat.at_unix_ns:
        return None
    skew_ns = beat.at_unix_ns - int(farm.now().timestamp() * 1e9)
    return max(-MAX_CLOCK_SKEW_NS, min(MAX_CLOCK_SKEW_NS, skew_ns)) / 1e9


def accept_result(farm: FarmContext, device_id: int, attempt_id: str, given: TrialResult) -> None:
    """Accept an attempt's result exactly once, and give its device the next trial.

    The same result again is acknowledged and changes nothing. After the commit, and in
    transactions of their own: the doorbell, closing the sweep, judging a health check.

    Raises:
        UnknownAttempt: no such attempt, or another device's.
        Superseded: the result does not count; it is kept with its attempt for inspection.
        UserError: it names another attempt, or contradicts itself.
        BlobGone: its samples, or what it built, were not uploaded; the agent sends both again.
    """
    measured = None
    try:
        if _closes_its_trial_only(given):
            measured = accept_measurement(farm, device_id, attempt_id, given)
        else:
            accept_under_sweep_lock(farm, device_id, attempt_id, given)
    except Superseded:
        with farm.database.transaction() as session:
            blob_references.share_blobs_lock(session, farm.blobs, _blob_digests(given))
            attempt = session.get_one(Attempt, attempt_id)
            attempt.result, attempt.note = codec.to_plain(given), SUPERSEDED
        raise
    if measured is not None:
        if measured.next is not None:
            publish_doorbell(farm, measured.next)
        if measured.next is None or measured.next.sweep_id != measured.sweep_id:
            completion.finish_sweep_after_commit(farm, measured.sweep_id)
        return
    health_checks.judge_ended_check(farm, device_id)
    health_checks.request_check_after_failure(farm, attempt_id, given.failure)
    dispatch(farm, device_id)


def _closes_its_trial_only(given: TrialResult) -> bool:
    """Whether accepting the result changes no row of another trial."""
    return given.status == "ok" and given.built is None


@dataclass(frozen=True)
class AcceptedMeasurement:
    """A measurement that was accepted now; ``next``: what its device was given in the same
    transaction."""

    sweep_id: int
    next: ClaimedAttempt | None


def accept_measurement(
    farm: FarmContext, device_id: int, attempt_id: str, given: TrialResult
) -> AcceptedMeasurement | None:
    """Accept a result of status ok that built nothing, and claim the device's next trial.

    Locks, in this order: the device's row; the blobs, shared; the sweep, shared with other
    measurements of it, so that results of one sweep do not wait for each other; the trial's row.

    Exactly once: under the trial's lock the result is written only where the attempt has none that
    counts, and is its trial's last. Result, event and next claim are one transaction, so that a
    controller which dies leaves nothing half-done. The sweep is not closed here: of two last
    results at once, neither sees the other's trial end. The caller calls
    ``completion.finish_sweep_after_commit``, and the later of the two sees both.

    Returns ``None`` where the result had been accepted before, or is a health check's: no trial was
    claimed then. Raises what ``accept_result`` raises.
    """
    with farm.database.transaction() as session:
        # raises UnknownAttempt before another device's attempt learns which blobs are stored
        sweep, device = attempt_queries.lock_device_and_share_sweep(session, device_id, attempt_id)
        _require_consistent(attempt_id, given)
        blob_references.require_stored(farm.blobs, _blob_digests(given))
        is_new = _write_result(farm, session, sweep, device_id, attempt_id, given)
        if not is_new or sweep.kind == HEALTH:
            return None
        return AcceptedMeasurement(sweep.id, claim_next_trial(farm, session, device))


def accept_under_sweep_lock(
    farm: FarmContext, device_id: int, attempt_id: str, given: TrialResult
) -> None:
    """Accept any other result: a failure, an invalid or unsupported one, or what a builder built.

    Locks, in this order: the device's row; the blobs, shared; the sweep, exclusively, because
    such a result may close other trials of its cell or release those that wait for a build; the
    trial's row, then those of the other trials.

    Exactly once: as ``accept_measurement``, under the trial's lock. The sweep is closed in the same
    transaction: its lock keeps every other result of the sweep out, so the last one sees that no
    trial is open. No trial is claimed: first a health check may have to be judged or requested.

    Raises what ``accept_result`` raises.
    """
    with farm.database.transaction() as session:
        sweep = attempt_queries.read_sweep_of_attempt(session, device_id, attempt_id)
        _require_consistent(attempt_id, given)
        if lock_device(session, device_id) is None:
            raise UnknownAttempt(f"this device has no attempt {attempt_id!r}")
        blob_references.share_blobs_lock(session, farm.blobs, _blob_digests(given))
        lock_sweep(session, sweep.id)
        is_new = _write_result(farm, session, sweep, device_id, attempt_id, given)
        if is_new and sweep.kind != HEALTH:
            finish_sweep_if_done(farm, session, sweep.id, device_id)


def _require_consistent(attempt_id: str, given: TrialResult) -> None:
    """Raises ``UserError`` where a result contradicts itself or names another attempt."""
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
    """Store the samples that came in the same request as a result, before it is accepted.

    Raises, with nothing stored:
        UnknownAttempt: no such attempt, or another device's.
        UserError: they are not the samples that the result names, or ``given`` is inconsistent.
    """
    with farm.database.read_connection() as connection:
        attempt_queries.require_own_attempt(connection, device_id, attempt_id)
    _require_consistent(attempt_id, given)
    named = given.samples
    if named is None:
        raise UserError("the result brings samples along, but names none")
    if named.size_bytes != len(samples):
        raise UserError(
            f"the result names samples of {named.size_bytes} bytes, but brings {len(samples)} along"
        )
    farm.blobs.put_verified(named.sha256, samples)


def _blob_digests(given: TrialResult) -> list[str]:
    return [blob.sha256 for blob in (given.samples, given.built) if blob is not None]


def _write_result(
    farm: FarmContext,
    session: Session,
    sweep: Row[Any],
    device_id: int,
    attempt_id: str,
    given: TrialResult,
) -> bool:
    """Write a result and what follows from it for its trial; false where it was accepted before.

    Locks the trial's row; the caller has locked the sweep, or shares it for a measurement, and
    closes it. Raises what ``accept_result`` raises.
    """
    attempt = attempt_queries.lock_attempt(session.connection(), device_id, attempt_id)
    if attempt.answered and attempt.note != SUPERSEDED:
        return False
    attempt.require_current()
    if attempt.build_key or given.built is not None:
        builds.require_result_fits_cell(session.get_one(Cell, attempt.cell_id), given)
    before = attempt.trial
    if before.state is TrialState.DISPATCHED:  # the answer to the start was lost
        before = before.to(TrialState.RUNNING)
    after = before.to(after_result(before, given.status, given.failure, sweep.attempts))
    event = farm.event_row(
        "trial_ended",
        attempt.trial.id,
        sweep=sweep.name,
        attempt=attempt.number,
        state=after.state.value,
    )
    if _closes_its_trial_only(given) and sweep.kind != HEALTH:
        attempt_queries.write_result(farm, session, attempt, after, codec.to_plain(given), event)
        if attempt.number > 1:
            _retract_earlier_results(session, attempt)
        return True
    _write_with_consequences(farm, session, sweep, attempt, after, given)
    if sweep.kind != HEALTH:
        session.connection().execute(INSERT_EVENT, event)
    return True


def _write_with_consequences(
    farm: FarmContext,
    session: Session,
    sweep: Row[Any],
    attempt: LockedAttempt,
    after: TrialLifecycle,
    given: TrialResult,
) -> None:
    """Write a result that may be retried, close its cell, or release trials that wait for it."""
    retried = after.state is TrialState.PENDING
    pause = (
        health_checks.RETRY_PAUSE if sweep.kind == HEALTH else retry.pause(after.spent, attempt.id)
    )
    columns = {"not_before": farm.now() + pause} if retried else {}
    attempt_queries.update_trial(session, attempt.trial_id, after, **columns)
    # a transient failure is kept with its attempt, but is not the trial's result
    values = {"result": codec.to_plain(given), "ended_at": farm.now(), "accepted": not retried}
    attempt_queries.update_attempt(session.connection(), attempt.id, values)
    if not retried and attempt.number > 1:
        _retract_earlier_results(session, attempt)
    if after.state is TrialState.UNSUPPORTED:
        _close_unsupported_cell(session, attempt)
    if after.state is TrialState.FAILED and sweep.kind != HEALTH:
        circuit_breaker.give_up_cell_if_hopeless(farm, session, sweep.name, attempt.cell_id)
    if attempt.build_key:
        builds.release_waiting_trials(session, session.get_one(Trial, attempt.trial_id), given)


def _retract_earlier_results(session: Session, accepted: LockedAttempt) -> None:
    """A trial has one accepted result: what counted before a resume counts no more."""
    earlier = (Attempt.trial_id == accepted.trial_id, Attempt.id != accepted.id, Attempt.accepted)
    session.execute(update(Attempt).where(*earlier).values(accepted=False))


def _close_unsupported_cell(session: Session, attempt: LockedAttempt) -> None:
    """``unsupported`` is a property of the cell: its other pending trials are not run."""
    others = select(Trial).where(
        Trial.cell_id == attempt.cell_id, Trial.state == TrialState.PENDING.value
    )
    for other in session.scalars(others):
        apply(other, lifecycle_of(other).to(TrialState.UNSUPPORTED))
