"""What a controller remembers from its last look at the farm: how fast boards may go.

All of it follows from the database, so that controllers side by side come to the same, and one that
was restarted, too.
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

COUNTED = timedelta(hours=1)
"""A board counts that was heard of, or made known, so lately. Those that were there before are
remembered for as long again: so none that was told a slower beat within this time is offline before
it is due."""
LOOK_EVERY = timedelta(seconds=10)
LATELY = 1 / 6
"""Of the time that a doorbell may go unanswered: which answers are counted. A controller may become
so many times slower from one moment to the next before a doorbell expires."""


_heard = func.coalesce(Device.seen_at, Device.created_at)
_BOARDS = select(
    func.count().filter(_heard > bindparam("lately", type_=Moment())),
    func.count().filter(_heard > bindparam("before", type_=Moment())),
)


def present(farm: FarmContext) -> Pace:
    """As it was at the last look."""
    if farm.memory.pace is not None:
        return farm.memory.pace
    settings = farm.settings
    return rules.pace(settings.heartbeat_s, settings.lease_s, settings.beats_per_s, 0)


def look(farm: FarmContext) -> bool:
    """Bring the pace up to date; false where that was done a moment ago."""
    memory, now, settings = farm.memory, farm.now(), farm.settings
    if memory.looked_at is not None and abs(now - memory.looked_at) < LOOK_EVERY:
        return False
    with farm.database.look() as connection:
        given = {"lately": now - COUNTED, "before": now - 2 * COUNTED}
        boards, before = connection.execute(_BOARDS, given).one()
    memory.pace = rules.pace(
        settings.heartbeat_s, settings.lease_s, settings.beats_per_s, boards, before
    )
    memory.looked_at = now
    return True


_earlier = aliased(Attempt)
_RUNG_IN_VAIN = exists().where(
    _earlier.trial_id == Attempt.trial_id,
    _earlier.number == Attempt.number - 1,
    _earlier.started_at.is_(None),
    _earlier.ended_at.is_not(None),
)
_UNANSWERED = (
    select(func.count())
    .select_from(Attempt)
    .join(Trial, (Trial.id == Attempt.trial_id) & (Trial.attempt == Attempt.number))
    .where(
        Attempt.lease_until > bindparam("now", type_=Moment()),
        Attempt.started_at.is_(None),
        Attempt.ended_at.is_(None),
        Trial.state == TrialState.DISPATCHED.value,
        # a board that is deaf says nothing about how busy the controllers are
        ~_RUNG_IN_VAIN,
    )
)
_ANSWERED = (
    select(func.count())
    .select_from(Attempt)
    .where(
        # every lease that began since then: there is no index by its beginning
        Attempt.lease_until > bindparam("leased_until", type_=Moment()),
        Attempt.started_at > bindparam("since", type_=Moment()),
    )
)


def room(farm: FarmContext) -> int:
    """How many doorbells may be rung now, in the whole farm."""
    now, settings = farm.now(), farm.settings
    since = now - timedelta(seconds=settings.dispatch_s * LATELY)
    leased_until = since + timedelta(seconds=settings.lease_s)
    with farm.database.look() as connection:
        unanswered = connection.execute(_UNANSWERED, {"now": now}).scalar_one()
        answered = 0
        if unanswered or farm.memory.after:  # mostly nobody waits, and nothing need be known
            given = {"since": since, "leased_until": leased_until}
            answered = connection.execute(_ANSWERED, given).scalar_one()
    return rules.room(answered, unanswered)
