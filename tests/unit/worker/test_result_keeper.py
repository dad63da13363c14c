"""A finished result on a disk that is full: kept as soon as there is room, or handed in at once."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from agent.contract import codec
from agent.contract.api_messages import Started
from agent.contract.trial import SCHEMA, TrialResult
from agent.worker.attempt_executor import AttemptExecutor
from agent.worker.attempts.attempt import FinishedAttempt
from agent.worker.attempts.result_keeper import ResultKeeper
from agent.worker.errors import ControllerUnreachable
from agent.worker.state_dir import StateFolders, recover
from agent.worker.uplink.http_client import Uplink
from agent.worker.uplink.leases import Leases
from agent.worker.uplink.outbox import Outbox
from agent.worker.uplink.result_sender import ResultSender
from support.played_board import Board, make_board, make_request


class FullDisk(Outbox):
    """An outbox that fails ``times`` times, like SQLite without space."""

    times = 0

    def put(self, attempt_id: str, result: str, samples_path: Path | None) -> bool:
        if self.times:
            self.times -= 1
            raise sqlite3.OperationalError("database or disk is full")
        return super().put(attempt_id, result, samples_path)


class PlayedUplink(Uplink):
    """A controller that answers, or not."""

    def __init__(self) -> None:
        super().__init__("http://controller.invalid")
        self.there = True
        self.given: list[str] = []

    def put_blob(self, sha256: str, path: Path, start: int | None = None) -> None:
        if not self.there:
            raise ControllerUnreachable("no answer")

    def result(self, attempt_id: str, result_json: str) -> None:
        if not self.there:
            raise ControllerUnreachable("no answer")
        self.given.append(attempt_id)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return make_board(tmp_path)


@pytest.fixture
def uplink() -> PlayedUplink:
    return PlayedUplink()


@pytest.fixture
def outbox(tmp_path: Path) -> FullDisk:
    return FullDisk(tmp_path / "outbox.sqlite")


@pytest.fixture
def keeper(outbox: FullDisk, board: Board, uplink: PlayedUplink) -> ResultKeeper:
    return ResultKeeper(outbox, ResultSender(outbox, uplink), board.services.blobs)


def finished(blob: Path | None = None) -> FinishedAttempt:
    return FinishedAttempt(TrialResult(SCHEMA, "a1", "ok", "0"), blob)


def test_a_full_disk_hands_the_result_in_from_memory(
    keeper: ResultKeeper, outbox: FullDisk, uplink: PlayedUplink, tmp_path: Path
) -> None:
    blob = tmp_path / "blob.zst"
    blob.write_bytes(b"samples")
    outbox.times = 1
    keeper.keep(finished(blob), lambda _s: pytest.fail("it was handed in"))
    assert uplink.given == ["a1"]
    assert not blob.exists()
    assert outbox.waiting() == 0


def test_without_disk_and_controller_it_is_tried_until_one_is_back(
    keeper: ResultKeeper, outbox: FullDisk, uplink: PlayedUplink
) -> None:
    uplink.there = False
    outbox.times = 3
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return False

    keeper.keep(finished(), wait)
    assert len(waits) == 3
    pending = outbox.due()
    assert pending is not None
    assert codec.loads(TrialResult, pending.result).attempt_id == "a1"


def test_a_stop_ends_the_waiting(
    keeper: ResultKeeper, outbox: FullDisk, uplink: PlayedUplink
) -> None:
    uplink.there = False
    outbox.times = 9
    assert not keeper.keep(finished(), lambda _s: True)
    assert (outbox.waiting(), uplink.given) == (0, [])


def test_what_can_be_fetched_again_makes_room(
    keeper: ResultKeeper, outbox: FullDisk, board: Board
) -> None:
    sha256 = board.services.blobs.store(b"a model of before")
    outbox.times = 1
    keeper.keep(finished(), lambda _s: False)
    assert not board.services.blobs.path(sha256).exists()


def executor(
    state: Path, board: Board, keeper: ResultKeeper, stopping: threading.Event
) -> AttemptExecutor:
    return AttemptExecutor(StateFolders(state), Leases(), board.services, keeper, stopping)


def test_an_attempt_that_the_disk_has_no_room_to_begin_says_so(
    tmp_path: Path, keeper: ResultKeeper, outbox: FullDisk, board: Board
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "attempts").write_text("no folder can be made here")
    started = Started(30.0, make_request())
    executor(state, board, keeper, threading.Event()).execute("a1", started, 0.0)
    pending = outbox.due()
    assert pending is not None
    result = codec.loads(TrialResult, pending.result)
    assert result.failure is not None
    assert (result.status, result.failure.stage, result.failure.kind) == (
        *("failed", "environment"),
        "io",
    )
    assert result.failure.transient


def test_an_attempt_whose_result_was_not_kept_is_left_for_the_next_agent_to_report(
    tmp_path: Path, keeper: ResultKeeper, outbox: FullDisk, board: Board, uplink: PlayedUplink
) -> None:
    uplink.there = False
    outbox.times = 9
    state = tmp_path / "state"
    StateFolders(state).make()
    stopping = threading.Event()
    stopping.set()
    started = Started(30.0, make_request())
    executor(state, board, keeper, stopping).execute("a1", started, 0.0)
    next_outbox = Outbox(state / "outbox.sqlite")
    recover(StateFolders(state), next_outbox)
    pending = next_outbox.due()
    assert pending is not None
    failure = codec.loads(TrialResult, pending.result).failure
    assert failure is not None
    assert (pending.attempt_id, failure.kind) == ("a1", "agent_died")
