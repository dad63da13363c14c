"""How fast a farm may go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.rate_control import MIN_DOORBELLS, Pace, doorbell_budget, pace


def test_a_small_farm_keeps_its_settings() -> None:
    assert pace(5.0, 30.0, 50.0, boards=250) == Pace(5.0, 30.0, 15.0)
    assert pace(5.0, 12.0, 50.0, boards=10) == Pace(5.0, 12.0, 15.0)


def test_ten_thousand_boards_beat_fifty_times_a_second() -> None:
    assert pace(5.0, 30.0, 50.0, boards=10_000) == Pace(200.0, 600.0, 600.0)


def test_those_that_were_told_a_slower_beat_are_waited_for() -> None:
    assert pace(5.0, 30.0, 50.0, boards=10, boards_before=10_000) == Pace(5.0, 30.0, 600.0)


@given(
    st.floats(0.1, 600), st.floats(1, 3600), st.floats(0.1, 1000), st.integers(0, 10**6),
    st.integers(0, 10**6),
)  # fmt: skip
def test_what_holds_of_every_pace(
    heartbeat_s: float, lease_s: float, beats_per_s: float, boards: int, before: int
) -> None:
    found = pace(heartbeat_s, lease_s, beats_per_s, boards, before)
    assert boards / found.heartbeat_s <= beats_per_s * 1.000001
    assert found.heartbeat_s >= heartbeat_s
    assert found.lease_s >= lease_s
    assert found.offline_after_s >= 3 * found.heartbeat_s
    if found.heartbeat_s > heartbeat_s:  # or leases would be what boards hasten their beats for
        assert found.lease_s >= 3 * found.heartbeat_s


@pytest.mark.parametrize(
    ("answered", "unanswered", "wanted"),
    [
        (0, 0, MIN_DOORBELLS),
        (0, MIN_DOORBELLS - 1, 1),
        (0, MIN_DOORBELLS, 0),
        (0, 10 * MIN_DOORBELLS, 0),
        (MIN_DOORBELLS, 0, MIN_DOORBELLS),
        (10 * MIN_DOORBELLS, 0, 10 * MIN_DOORBELLS),
        (10 * MIN_DOORBELLS, 9 * MIN_DOORBELLS, MIN_DOORBELLS),
        (10 * MIN_DOORBELLS, 11 * MIN_DOORBELLS, 0),
    ],
)
def test_room_for_doorbells(answered: int, unanswered: int, wanted: int) -> None:
    assert doorbell_budget(answered, unanswered) == wanted
