"""Rate control: the heartbeat interval, the lease and the doorbells for a farm of this size.

All of it is computed from the database, so that all controllers of a farm, and one that was
restarted, compute the same.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, exists, func, select
from sqlalchemy.orm import aliased

from orchestrator.domain import rate_control as rules
from orchestrator.domain.rate_control import Pace
from orchestrator.domain.trial import TrialState
from orchestrator.store.tables import Attempt, Device, Moment, Trial

if TYPE_CHECKING:
    from orchestrator.service.context import FarmContext

PRESENCE_WINDOW = timedelta(hours=1)
"""A board counts for this long after it was last heard of, or added. The number of boards in the
window before this one counts too: a board that was told a long heartbeat interval then does not
become offline before its heartbeat is due."""
REFRESH_INTERVAL = timedelta(seconds=10)
RECENT_FRACTION = 1 / 6
"""Fraction of ``dispatch_s`` over which answered doorbells are counted. Controllers may suddenly
become six times slower before a doorbell expires."""

_last_heard_of = func.coalesce(Device.seen_at, Device.created_at)
SELECT_BOARD_COUNTS = select(
    func.count().filter(_last_heard_of > bindparam("lately", type_=Moment())),
    func.count().filter(_last_heard_of > bindparam("before", type_=Moment())),
)


def current_pace(farm: FarmContext) -> Pace:
    """The pace computed by the last ``refresh_pace``; for an empty farm before the first."""
    if farm.rate_memory.pace is not None:
        return farm.rate_memory.pace
    settings = farm.settings
    return rules.pace(settings.heartbeat_s, settings.lease_s, settings.beats_per_s, 0)


def refresh_pace(farm: FarmContext) -> bool:
    """Compute the pace anew; false where that was done less than ``REFRESH_INTERVAL`` ago."""
    memory, now, settings = farm.rate_memory, farm.now(), farm.settings
    if memory.refreshed_at is not None and abs(now - memory.refreshed_at) < REFRESH_INTERVAL:
        return False
    with farm.database.read_connection() as connection:
        parameters = {"lately": now - PRESENCE_WINDOW, "before": now - 2 * PRESENCE_WINDOW}
        boards, before = connection.execute(SELECT_BOARD_COUNTS, parameters).one()
    memory.pace = rules.pace(
        settings.heartbeat_s, settings.lease_s, settings.beats_per_s, boards, before
    )
    memory.refreshed_at = now
    return True


_PREVIOUS_ATTEMPT = aliased(Attempt)
_PREVIOUS_DOORBELL_UNANSWERED = exists().where(
    _PREVIOUS_ATTEMPT.trial_id == Attempt.trial_id,
    _PREVIOUS_ATTEMPT.number == Attempt.number - 1,
    _PREVIOUS_ATTEMPT.started_at.is_(None),
    _PREVIOUS_ATTEMPT.ended_at.is_not(None),
)
SELECT_UNANSWERED_DOORBELL_COUNT = (
    select(func.count())
    .select_from(Attempt)
    .join(Trial, (Trial.id == Attempt.trial_id) & (Trial.attempt == Attempt.number))
    .where(
        Attempt.lease_until > bindparam("now", type_=Moment()),
        Attempt.started_at.is_(None),
        Attempt.ended_at.is_(None),
        Trial.state == TrialState.DISPATCHED.value,
        # a board that also missed the doorbell before is deaf: the controllers are not to blame
        ~_PREVIOUS_DOORBELL_UNANSWERED,
    )
)
SELECT_ANSWERED_DOORBELL_COUNT = (
    select(func.count())
    .select_from(Attempt)
    .where(
        # leases that began since then: the index is on their end
        Attempt.lease_until > bindparam("leased_until", type_=Moment()),
        Attempt.started_at > bindparam("since", type_=Moment()),
    )
)


def doorbell_budget(farm: FarmContext) -> int:
    """How many doorbells may be published now, in the whole farm."""
    now, settings = farm.now(), farm.settings
    since = now - timedelta(seconds=settings.dispatch_s * RECENT_FRACTION)
    leased_until = since + timedelta(seconds=settings.lease_s)
    with farm.database.read_connection() as connection:
        unanswered = connection.execute(SELECT_UNANSWERED_DOORBELL_COUNT, {"now": now}).scalar_one()
        answered = 0
        if (
            unanswered or farm.rate_memory.last_device_id
        ):  # else there is no queue, and the rate is not needed
            parameters = {"since": since, "leased_until": leased_until}
            answered = connection.execute(SELECT_ANSWERED_DOORBELL_COUNT, parameters).scalar_one()
    return rules.doorbell_budget(answered, unanswered)
