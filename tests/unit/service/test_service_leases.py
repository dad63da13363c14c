"""Expired leases count once living boards had time to renew them; on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from orchestrator.service.devices import devices
from orchestrator.service.scheduling import ingest, lease_watch, scheduler
from orchestrator.service.scheduling.lease_watch import LeaseWatch
from orchestrator.store.tables import Attempt, Device, Event, Trial
from support.farms import FarmKit, failed

HOURS_S = 3 * 3600.0


class Looks:
    """The kit's farm with a clock that jumps, and its ``LeaseWatch``."""

    def __init__(self, kit: FarmKit) -> None:
        self.kit, self.jumped_s, self.steady_s = kit, 0.0, 50.0
        self.farm = replace(kit.farm, check_clock=self._look)
        self.watch = LeaseWatch(self.farm, lambda: self.steady_s)

    def _look(self) -> float:
        jumped, self.jumped_s = self.jumped_s, 0.0
        return jumped

    def jump(self, seconds: float) -> None:
        self.kit.clock.advance(seconds)
        self.jumped_s = seconds

    def pass_(self, seconds: float) -> None:
        self.kit.clock.advance(seconds)
        self.steady_s += seconds

    def round_(self) -> None:
        scheduler.tick(self.farm, self.watch.leases_count())

    def go_on(self, seconds: float, board: int = 0, attempt: str = "") -> None:
        """A scheduler round each second, and heartbeats of ``board``."""
        for _ in range(round(seconds)):
            self.pass_(1)
            if board:
                self.kit.beat(board, attempt)
            self.round_()


@pytest.fixture
def board(farm: FarmKit) -> int:
    farm.add_model()
    return farm.device()


@pytest.fixture
def looks(farm: FarmKit) -> Looks:
    return Looks(farm)


def begin(looks: Looks, board: int) -> str:
    """A running trial, and a watch after whose waiting leases count."""
    lease_s = looks.farm.settings.lease_s
    looks.go_on(lease_s + 1, board)
    looks.kit.submit(attempts=3)
    looks.round_()
    attempt = looks.kit.last_rung()
    ingest.start_attempt(looks.farm, board, attempt)
    return attempt


@pytest.mark.parametrize("jump_s", [HOURS_S, -HOURS_S])
def test_a_jump_costs_a_living_board_nothing(looks: Looks, board: int, jump_s: float) -> None:
    attempt = begin(looks, board)
    for _ in range(4):  # more often than the trial has attempts
        looks.jump(jump_s)
        looks.round_()
        looks.go_on(5)  # its heartbeats are late
        looks.go_on(looks.farm.settings.lease_s + 5, board, attempt)
    assert [(t.state, t.attempt, t.spent) for t in looks.kit.trials()] == [("running", 1, 1)]
    looks.kit.give(board, looks.kit.ok(attempt))
    assert looks.kit.states() == ["done"]
    with looks.farm.database.read_session() as session:
        told = session.scalars(select(Event).where(Event.kind == "clock_jumped")).all()
        assert [e.data["seconds"] for e in told] == [jump_s] * 4


@pytest.mark.parametrize("jump_s", [HOURS_S, -HOURS_S, 0.0])
def test_a_board_that_fell_silent_is_found_out_after_a_jump(
    looks: Looks, board: int, jump_s: float
) -> None:
    begin(looks, board)
    looks.jump(jump_s)
    looks.round_()
    looks.go_on(looks.farm.settings.lease_s - 1)
    assert looks.kit.states() == ["running"]
    looks.go_on(3)
    assert looks.kit.attempts()[0].note == "lease ran out while running"


@pytest.mark.parametrize("what", ["start", "freeze"])
def test_nobody_could_renew_while_nobody_looked(looks: Looks, board: int, what: str) -> None:
    attempt = begin(looks, board)
    looks.pass_(HOURS_S)
    if what == "start":
        looks.watch = LeaseWatch(looks.farm, lambda: looks.steady_s)
    looks.round_()
    assert looks.kit.states() == ["running"]
    looks.go_on(60, board, attempt)
    assert [(t.state, t.attempt) for t in looks.kit.trials()] == [("running", 1)]


def test_rounds_that_take_long_put_nothing_off_for_ever(looks: Looks, board: int) -> None:
    begin(looks, board)
    for _ in range(4):
        looks.pass_(looks.farm.settings.lease_s * 0.8)
        looks.round_()
    assert looks.kit.attempts()[0].note == "lease ran out while running"


def test_a_doorbell_is_rung_again_at_once_after_a_start(looks: Looks, board: int) -> None:
    looks.kit.submit()
    looks.round_()
    first = looks.kit.last_rung()
    looks.pass_(HOURS_S)
    looks.kit.beat(board)
    looks.watch = LeaseWatch(looks.farm, lambda: looks.steady_s)
    looks.round_()
    assert looks.kit.last_rung() != first
    assert [t.spent for t in looks.kit.trials()] == [0]


def test_what_a_clock_that_was_ahead_left_is_not_waited_for(looks: Looks, board: int) -> None:
    """The clock was set back while the controller was down."""
    attempt = begin(looks, board)
    looks.kit.give(board, failed(attempt, transient=True))
    looks.kit.submit(name="second")
    farm, database = looks.farm, looks.farm.database
    with database.transaction() as session:
        session.get_one(Device, board).checked_at = looks.kit.clock()
    looks.kit.beat(board)
    looks.kit.clock.advance(-HOURS_S)
    assert devices.device(farm, "board").connection == "online"
    LeaseWatch(farm).leases_count()
    now = looks.kit.clock()
    with database.read_session() as session:
        device = session.get_one(Device, board)
        assert (device.seen_at, device.checked_at) == (now, now)
        assert all(t.not_before is None for t in session.query(Trial))
        longest = timedelta(seconds=max(farm.settings.lease_s, farm.settings.dispatch_s))
        open_ = [a for a in session.query(Attempt) if a.ended_at is None]
        assert open_
        assert all(a.lease_until <= now + longest for a in open_)


def test_set_right_leaves_what_is_right(looks: Looks, board: int) -> None:
    attempt = begin(looks, board)
    looks.kit.beat(board, attempt)
    before = looks.kit.rows()
    lease_watch.correct_future_times(looks.farm)
    assert looks.kit.rows() == before
