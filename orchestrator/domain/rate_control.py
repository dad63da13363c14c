"""Rates of heartbeats and doorbells that the controllers can keep up with. Pure."""

from __future__ import annotations

from dataclasses import dataclass

BEATS_TO_OFFLINE = 3
BEATS_TO_A_LEASE = 3
MIN_DOORBELLS = 50
"""Doorbells that may always be unanswered: a farm of up to so many boards is never slowed down."""


@dataclass(frozen=True)
class Pace:
    """Heartbeat period and lease that boards are told, and the silence after which one is
    offline."""

    heartbeat_s: float
    lease_s: float
    offline_after_s: float


def pace(
    heartbeat_s: float, lease_s: float, beats_per_s: float, boards: int, boards_before: int = 0
) -> Pace:
    """The pace of a farm of so many ``boards``, which together send at most ``beats_per_s``.

    ``heartbeat_s`` and ``lease_s`` hold for small farms. ``boards_before``: the largest number of
    boards at the time when any board got its present period; such a board may still use that one,
    so it is declared offline later.
    """
    period_s = max(heartbeat_s, boards / beats_per_s)
    slowest_s = max(period_s, boards_before / beats_per_s)
    if period_s > heartbeat_s:
        lease_s = max(lease_s, BEATS_TO_A_LEASE * period_s)
    return Pace(period_s, lease_s, BEATS_TO_OFFLINE * slowest_s)


def doorbell_budget(answered: int, unanswered: int) -> int:
    """Number of doorbells that may be rung now: at most as many may be ``unanswered`` as were
    ``answered`` in the last interval. So answers do not queue for much longer than an interval, and
    while boards answer at once the rate doubles in each one."""
    return max(0, max(MIN_DOORBELLS, answered) - unanswered)
