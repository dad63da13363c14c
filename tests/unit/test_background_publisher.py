"""Doorbells are published in the background: callers never wait and never see errors."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

import pytest

from agent.broker import BrokerDown
from orchestrator.broker.background_publisher import MAX_WAITING, BackgroundPublisher

KEEP_S = 30.0
LIMIT_S = 30


@dataclass
class Broker:
    """Takes a doorbell once ``answers`` is set; ``away``: refuses it."""

    answers: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)
    published: list[tuple[str, str]] = field(default_factory=list)
    away: bool = False

    def __call__(self, device: str, attempt_id: str) -> None:
        self.asked.set()
        assert self.answers.wait(LIMIT_S)
        if self.away:
            raise BrokerDown(f"it did not take that of {device}")
        self.published.append((device, attempt_id))


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_broker_that_hangs_keeps_nobody_waiting_and_hears_all_in_their_order() -> None:
    broker = Broker()
    publisher = BackgroundPublisher(broker, KEEP_S)
    wanted = [(f"board{n}", f"a{n}") for n in range(50)]
    for device, attempt_id in wanted:
        publisher(device, attempt_id)  # would hang here
    assert broker.published == []
    broker.answers.set()
    publisher.close()
    assert broker.published == wanted


def test_one_that_waited_longer_than_its_lease_is_not_rung() -> None:
    broker, clock = Broker(), Clock()
    publisher = BackgroundPublisher(broker, KEEP_S, clock)
    publisher("board1", "under way")
    assert broker.asked.wait(LIMIT_S)
    publisher("board2", "old")
    clock.now = KEEP_S + 1
    publisher("board3", "new")
    broker.answers.set()
    publisher.close()
    assert broker.published == [("board1", "under way"), ("board3", "new")]


def test_an_hour_without_a_broker_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker(away=True)
    broker.answers.set()
    with caplog.at_level(logging.WARNING):
        publisher = BackgroundPublisher(broker, KEEP_S)
        for number in range(20):
            publisher("board", f"a{number}")
        publisher.close()
    assert [record.getMessage() for record in caplog.records] == [
        "no doorbell is rung, their leases will bring them back: it did not take that of board"
    ]


def test_more_than_can_ever_matter_are_not_kept() -> None:
    broker = Broker()
    publisher = BackgroundPublisher(broker, KEEP_S)
    publisher("board", "first")
    assert broker.asked.wait(LIMIT_S)
    for number in range(MAX_WAITING + 5):
        publisher("board", f"a{number}")
    broker.answers.set()
    publisher.close()
    assert broker.published[0] == ("board", "first")
    assert [attempt for _, attempt in broker.published[1:]] == [
        f"a{n}" for n in range(5, MAX_WAITING + 5)
    ]


def test_nothing_is_rung_once_it_is_closed() -> None:
    broker = Broker()
    broker.answers.set()
    publisher = BackgroundPublisher(broker, KEEP_S)
    publisher.close()
    publisher("board", "late")
    assert not broker.asked.is_set()
