"""Doorbells are rung in a thread of their own; who rings never waits, and never hears of errors."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

import pytest

from agent.broker import BrokerDown
from orchestrator.broker.background_publisher import MOST, BackgroundPublisher

KEEP_S = 30.0
LIMIT_S = 30


@dataclass
class Broker:
    """One that takes a doorbell once ``answers`` is set; ``away``: it refuses."""

    answers: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)
    rung: list[tuple[str, str]] = field(default_factory=list)
    away: bool = False

    def __call__(self, device: str, attempt_id: str) -> None:
        self.asked.set()
        assert self.answers.wait(LIMIT_S)
        if self.away:
            raise BrokerDown(f"it did not take that of {device}")
        self.rung.append((device, attempt_id))


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_broker_that_hangs_keeps_nobody_waiting_and_hears_all_in_their_order() -> None:
    broker = Broker()
    ringer = BackgroundPublisher(broker, KEEP_S)
    wanted = [(f"board{n}", f"a{n}") for n in range(50)]
    for device, attempt_id in wanted:
        ringer(device, attempt_id)  # would hang here
    assert broker.rung == []
    broker.answers.set()
    ringer.close()
    assert broker.rung == wanted


def test_one_that_waited_longer_than_its_lease_is_not_rung() -> None:
    broker, clock = Broker(), Clock()
    ringer = BackgroundPublisher(broker, KEEP_S, clock)
    ringer("board1", "under way")
    assert broker.asked.wait(LIMIT_S)
    ringer("board2", "old")
    clock.now = KEEP_S + 1
    ringer("board3", "new")
    broker.answers.set()
    ringer.close()
    assert broker.rung == [("board1", "under way"), ("board3", "new")]


def test_an_hour_without_a_broker_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker(away=True)
    broker.answers.set()
    with caplog.at_level(logging.WARNING):
        ringer = BackgroundPublisher(broker, KEEP_S)
        for number in range(20):
            ringer("board", f"a{number}")
        ringer.close()
    assert [record.getMessage() for record in caplog.records] == [
        "no doorbell is rung, their leases will bring them back: it did not take that of board"
    ]


def test_more_than_can_ever_matter_are_not_kept() -> None:
    broker = Broker()
    ringer = BackgroundPublisher(broker, KEEP_S)
    ringer("board", "first")
    assert broker.asked.wait(LIMIT_S)
    for number in range(MOST + 5):
        ringer("board", f"a{number}")
    broker.answers.set()
    ringer.close()
    assert broker.rung[0] == ("board", "first")
    assert [attempt for _, attempt in broker.rung[1:]] == [f"a{n}" for n in range(5, MOST + 5)]


def test_nothing_is_rung_once_it_is_closed() -> None:
    broker = Broker()
    broker.answers.set()
    ringer = BackgroundPublisher(broker, KEEP_S)
    ringer.close()
    ringer("board", "late")
    assert not broker.asked.is_set()
