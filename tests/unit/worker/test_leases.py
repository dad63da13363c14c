"""The lease: what renews it, and what ends the attempt."""

from __future__ import annotations

import pytest

from agent.contract.api_messages import HeartbeatAnswer
from agent.worker.uplink.leases import Leases

RENEWED = HeartbeatAnswer(renewed=True, cancel=False, heartbeat_s=5, lease_s=20)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(clock: Clock) -> Leases:
    return Leases(clock)


def test_an_attempt_is_named_while_it_runs(leases: Leases) -> None:
    assert leases.attempt_id == ""
    with leases.hold("a1", 20, 1000.0) as cancel:
        assert leases.attempt_id == "a1"
        assert cancel.reason == ""
    assert leases.attempt_id == ""


def test_a_lease_runs_out_from_when_it_was_asked_for(leases: Leases, clock: Clock) -> None:
    with leases.hold("a1", 20, requested_at=995.0) as cancel:
        clock.now = 1015.0
        leases.expire()
        assert cancel.reason == ""
        clock.now = 1015.1
        leases.expire()
        assert cancel.reason == "lease"


def test_a_renewal_counts_from_when_it_was_sent(leases: Leases, clock: Clock) -> None:
    with leases.hold("a1", 20, 1000.0) as cancel:
        clock.now = 1019.0
        leases.answered("a1", RENEWED, sent_at=1010.0)
        clock.now = 1030.0
        leases.expire()
        assert cancel.reason == ""
        clock.now = 1030.5
        leases.expire()
        assert cancel.reason == "lease"


@pytest.mark.parametrize(
    ("renewed", "cancelled", "reason"),
    [
        (True, False, ""),
        (False, False, "lease"),
        (True, True, "cancelled"),
        (False, True, "cancelled"),
    ],
)
def test_what_an_answer_does(leases: Leases, renewed: bool, cancelled: bool, reason: str) -> None:
    with leases.hold("a1", 20, 1000.0) as cancel:
        leases.answered("a1", HeartbeatAnswer(renewed, cancelled, 5, 20), 1000.0)
        assert cancel.reason == reason


def test_an_answer_for_an_earlier_attempt_is_void(leases: Leases) -> None:
    lost = HeartbeatAnswer(renewed=False, cancel=True, heartbeat_s=5, lease_s=20)
    leases.answered("a1", lost, 1000.0)
    with leases.hold("a2", 20, 1000.0) as cancel:
        leases.answered("a1", lost, 1000.0)
        leases.answered("", lost, 1000.0)
        assert cancel.reason == ""


def test_beats_come_thrice_a_lease_at_least(leases: Leases) -> None:
    assert leases.interval_s(30) == 30
    with leases.hold("a1", 12, 1000.0):
        assert leases.interval_s(30) == 4
        assert leases.interval_s(3) == 3


def test_shutting_down_ends_what_runs_and_what_begins(leases: Leases) -> None:
    with leases.hold("a1", 20, 1000.0) as cancel:
        leases.shut_down()
        assert cancel.reason == "shutdown"
    with leases.hold("a2", 20, 1000.0) as cancel:
        assert cancel.reason == "shutdown"


def test_a_beat_follows_the_beginning() -> None:
    asked: list[str] = []
    leases = Leases(on_change=lambda: asked.append("beat"))
    with leases.hold("a1", 20, 0.0):
        assert asked == ["beat"]
