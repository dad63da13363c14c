"""What a doorbell starts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from agent.contract import codec
from agent.contract.api_messages import Started
from agent.worker.attempt_executor import AttemptExecutor
from agent.worker.attempts.attempt import FinishedAttempt
from agent.worker.attempts.result_keeper import ResultKeeper
from agent.worker.doorbell_handler import DoorbellHandler
from agent.worker.errors import AttemptSuperseded, ControllerUnreachable
from agent.worker.uplink.heartbeat import HeartbeatSender
from agent.worker.uplink.http_client import Uplink
from support.played_board import make_request


@dataclass
class Fakes:
    """The collaborators of a handler, each of which records what it was asked for."""

    known: set[str] = field(default_factory=set)
    room: bool = True
    start_error: Exception | None = None
    leased: list[str] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)
    kept: list[FinishedAttempt] = field(default_factory=list)
    beats: int = 0
    running: str = ""
    during: Callable[[], None] = lambda: None

    # ResultKeeper
    def knows(self, attempt_id: str) -> bool:
        return attempt_id in self.known

    def has_room(self, _folder: Path) -> bool:
        return self.room

    def keep(self, finished: FinishedAttempt, _wait: object) -> bool:
        self.kept.append(finished)
        return True

    # Uplink
    def start(self, attempt_id: str) -> Started:
        self.leased.append(attempt_id)
        if self.start_error is not None:
            raise self.start_error
        return Started(30.0, make_request())

    # AttemptExecutor
    def execute(self, attempt_id: str, _started: Started, _requested_at: float) -> None:
        self.executed.append(attempt_id)
        self.during()

    # HeartbeatSender and its leases
    @property
    def leases(self) -> Fakes:
        return self

    @property
    def attempt_id(self) -> str:
        return self.running

    def beat_soon(self) -> None:
        self.beats += 1


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def handler(fakes: Fakes, stopping: threading.Event, tmp_path: Path) -> DoorbellHandler:
    return DoorbellHandler(
        tmp_path,
        cast(Uplink, fakes),
        cast(HeartbeatSender, fakes),
        cast(ResultKeeper, fakes),
        cast(AttemptExecutor, fakes),
        board_lock=threading.Lock(),
        stopping=stopping,
    )


def test_an_attempt_is_leased_and_executed(handler: DoorbellHandler, fakes: Fakes) -> None:
    idle_during: list[bool] = []
    fakes.during = lambda: idle_during.append(handler.is_idle())
    assert handler.is_idle()
    handler.on_doorbell("a1")
    assert (fakes.leased, fakes.executed, idle_during) == (["a1"], ["a1"], [False])
    assert handler.is_idle()


def test_a_doorbell_of_a_kept_result_is_dropped(handler: DoorbellHandler, fakes: Fakes) -> None:
    fakes.known = {"a1"}
    handler.on_doorbell("a1")
    assert fakes.leased == []


def test_a_doorbell_beside_a_running_attempt_is_dropped(
    handler: DoorbellHandler, fakes: Fakes
) -> None:
    fakes.during = lambda: handler.on_doorbell("a2")
    handler.on_doorbell("a1")
    assert fakes.leased == ["a1"]


def test_without_room_nothing_is_leased(handler: DoorbellHandler, fakes: Fakes) -> None:
    fakes.room = False
    handler.on_doorbell("a1")
    assert fakes.leased == []


def test_while_the_agent_stops_nothing_is_leased(
    handler: DoorbellHandler, fakes: Fakes, stopping: threading.Event
) -> None:
    stopping.set()
    handler.on_doorbell("a1")
    assert fakes.leased == []


@pytest.mark.parametrize("error", [AttemptSuperseded("gone"), ControllerUnreachable("away")])
def test_an_attempt_that_is_not_leased_is_not_executed(
    handler: DoorbellHandler, fakes: Fakes, error: Exception
) -> None:
    fakes.start_error = error
    handler.on_doorbell("a1")
    assert (fakes.leased, fakes.executed, fakes.kept) == (["a1"], [], [])
    fakes.start_error = None
    handler.on_doorbell("a1")
    assert fakes.executed == ["a1"]


def test_a_request_that_this_agent_cannot_read_is_a_result(
    handler: DoorbellHandler, fakes: Fakes
) -> None:
    fakes.start_error = codec.ContractError("unknown key")
    handler.on_doorbell("a1")
    [finished] = fakes.kept
    assert finished.result.attempt_id == "a1"
    assert finished.result.failure is not None
    assert finished.result.failure.kind == "contract"
    assert fakes.executed == []


def test_an_unexpected_error_leaves_the_handler_usable(
    handler: DoorbellHandler, fakes: Fakes
) -> None:
    def fail() -> None:
        raise ValueError("a mistake of ours")

    fakes.during = fail
    handler.on_doorbell("a1")
    assert handler.is_idle()
    handler.on_doorbell("a2")
    assert fakes.executed == ["a1", "a2"]


@pytest.mark.parametrize(
    ("running", "attempt_id", "handled"),
    [("a1", "a1", True), ("a1", "a2", False), ("", "a1", False), ("", "", False)],
)
def test_on_arrival_the_running_attempts_doorbell_sends_a_heartbeat(
    handler: DoorbellHandler, fakes: Fakes, running: str, attempt_id: str, handled: bool
) -> None:
    fakes.running = running
    assert handler.on_arrival(attempt_id) is handled
    assert fakes.beats == handled
