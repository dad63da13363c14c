"""Back-off: doubling, bounded, and not the same for everybody."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.retry import FIRST_S, LONGEST_S, pause

IDS = [uuid.UUID(int=n).hex for n in range(200)]


@pytest.mark.parametrize(
    ("spent", "longest_s"), [(1, 2), (2, 4), (3, 8), (8, 256), (9, 300), (5000, 300)]
)
def test_it_doubles_up_to_a_bound_and_is_drawn_from_the_upper_half(
    spent: int, longest_s: float
) -> None:
    drawn = [pause(spent, i).total_seconds() / longest_s for i in IDS]
    assert min(drawn) >= 0.5
    assert max(drawn) <= 1.0
    # 200 even draws leave no quarter of the range empty: (3/4)^200 is below 1e-24
    assert {int((d - 0.5) * 8) for d in drawn} >= {0, 1, 2, 3}


def test_the_same_attempt_waits_as_long_whoever_asks() -> None:
    assert pause(2, IDS[0]) == pause(2, IDS[0])
    assert pause(2, IDS[0]) != pause(2, IDS[1])


@given(spent=st.integers(1, 10_000), attempt=st.text())
def test_nothing_waits_for_ever_and_nothing_at_once(spent: int, attempt: str) -> None:
    assert FIRST_S / 2 <= pause(spent, attempt).total_seconds() <= LONGEST_S
