"""How fast a farm may go: heartbeats and doorbells, so many that its controllers keep up."""

from __future__ import annotations

from dataclasses import dataclass

BEATS_TO_OFFLINE = 3
BEATS_TO_A_LEASE = 3
FEW = 50
"""Doorbells that may always be unanswered: a farm of so many boards is never held back."""


@dataclass(frozen=True)
class Pace:
    """Seconds. What boards are told, and how long one is waited for that was told so lately."""

    heartbeat_s: float
    lease_s: float
    offline_after_s: float


def pace(
    heartbeat_s: float, lease_s: float, beats_per_s: float, boards: int, boards_before: int = 0
) -> Pace:
    """The pace of a farm of so many ``boards``, which together beat ``beats_per_s`` at most.

    ``heartbeat_s`` and ``lease_s`` are those of a farm small enough. ``boards_before``: the most
    that there were when any board was told its period that has not beaten since: it is waited for.
    """
    period_s = max(heartbeat_s, boards / beats_per_s)
    slowest_s = max(period_s, boards_before / beats_per_s)
    if period_s > heartbeat_s:
        lease_s = max(lease_s, BEATS_TO_A_LEASE * period_s)
    return Pace(period_s, lease_s, BEATS_TO_OFFLINE * slowest_s)


def room(answered: int, unanswered: int) -> int:
    """How many doorbells may be rung now, where so many were ``answered`` lately and so many more
    wait for their answer: none waits much longer than that lately was long, and as long as boards
    answer at once it doubles from one look to the next."""
    return max(0, max(FEW, answered) - unanswered)
