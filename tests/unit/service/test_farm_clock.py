"""The farm's clock is steady and reports when its source jumped."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy.exc import OperationalError

from orchestrator.service.farm_clock import FarmClock, time_source
from support.farms import START, FarmKit


class Machine:
    """A wall clock that can be set, a monotonic clock, and the time that reading takes."""

    def __init__(self) -> None:
        self.wall, self.steady_s, self.asking_s = START, 1000.0, 0.0
        self.error: Exception | None = None

    def pass_(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.steady_s += seconds

    def ask(self) -> datetime:
        if self.error is not None:
            raise self.error
        self.pass_(self.asking_s / 2)
        said = self.wall
        self.pass_(self.asking_s / 2)
        return said

    def steady(self) -> float:
        return self.steady_s


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.mark.parametrize("jump_s", [10_800.0, -10_800.0, 86_400.0 * 400])
def test_a_jump_is_seen_once_and_then_followed(machine: Machine, jump_s: float) -> None:
    clock = FarmClock(machine.ask, machine.steady)
    machine.pass_(10)
    assert clock.synchronise() == 0.0
    machine.wall += timedelta(seconds=jump_s)
    machine.pass_(2)
    assert clock.now() == START + timedelta(seconds=12), "until somebody looks, nothing has jumped"
    assert clock.synchronise() == pytest.approx(jump_s)
    assert clock.now() == machine.wall
    machine.pass_(5)
    assert (clock.synchronise(), clock.now()) == (0.0, machine.wall)


def test_small_differences_are_followed_in_silence(machine: Machine) -> None:
    clock = FarmClock(machine.ask, machine.steady)
    machine.wall += timedelta(seconds=0.9)
    assert clock.synchronise() == 0.0
    assert clock.now() == machine.wall


def test_a_slow_answer_is_no_jump(machine: Machine) -> None:
    clock = FarmClock(machine.ask, machine.steady)
    machine.asking_s = 8.0
    before = clock.now()
    assert clock.synchronise() == 0.0
    assert clock.now() == before + timedelta(seconds=8), "nor does it move the clock"


def test_a_source_that_is_away_at_first_is_asked_later(machine: Machine) -> None:
    machine.error = OperationalError("SELECT 1", {}, Exception("refused"))
    clock = FarmClock(machine.ask, machine.steady)
    with pytest.raises(OperationalError):
        clock.synchronise()
    machine.error = None
    clock.synchronise()
    assert clock.now() == machine.wall


def test_the_source_is_aware_and_goes_on(farm: FarmKit) -> None:
    ask = time_source(farm.farm.database)
    first, second = ask(), ask()
    assert first.utcoffset() == timedelta(0)
    assert timedelta(0) < second - first < timedelta(minutes=5)
