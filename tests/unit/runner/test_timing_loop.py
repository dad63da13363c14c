"""The clock guard and the timed loop, on a clock that only moves when it is told to."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field

import numpy as np
import pytest

from agent.contract.failures import BadOption, ClockError, UnsupportedScenario
from agent.contract.trial import Clock, Scenario
from agent.runner import clock, timing_loop
from agent.runner.scenarios import find_loop
from agent.runtimes.backend import RawSamples


@dataclass
class FakeClock:
    """Time that passes by ``cost_ns`` for each reading and shows in steps of ``tick_ns``."""

    cost_ns: int = 50
    tick_ns: int = 1
    true_ns: int = 0

    def __call__(self) -> int:
        self.true_ns += self.cost_ns
        return self.true_ns // self.tick_ns * self.tick_ns


@dataclass
class FakeSession:
    time: FakeClock
    takes_ns: int
    calls: int = 0
    collected: list[bool] = field(default_factory=list)

    def infer(self) -> None:
        self.calls += 1
        self.collected.append(gc.isenabled())
        self.time.true_ns += self.takes_ns


GOOD = Clock("fake", 1, 50.0)
BRIEF = Scenario(min_duration_s=0.0, max_duration_s=0.05, min_samples=20)


def samples_of(takes_ns: int, scenario: Scenario = BRIEF, own: int | None = None) -> RawSamples:
    time = FakeClock()
    session = FakeSession(time, takes_ns)
    pilot = timing_loop.warm_up(session.infer, 0.0, time)
    reporter = None if own is None else (lambda: own)
    return timing_loop.measure(session.infer, reporter, pilot, scenario, GOOD, time)


def test_tick_and_cost_are_measured() -> None:
    assert clock.characterise(FakeClock(cost_ns=50), "c") == Clock("c", 50, 50.0)
    coarse = clock.characterise(FakeClock(cost_ns=50, tick_ns=1_000), "c")
    assert coarse.tick_ns == 1_000
    assert coarse.call_ns == pytest.approx(50.0, rel=0.01)


def test_a_broken_clock_is_refused() -> None:
    with pytest.raises(ClockError, match="stood still"):
        clock.characterise(lambda: 5, "c")
    readings = iter([5, 4] * 20_000)
    with pytest.raises(ClockError, match="backwards"):
        clock.characterise(lambda: next(readings), "c")


@pytest.mark.parametrize(
    ("tick_ns", "call_ns", "shortest"), [(1, 50.0, 500), (100, 50.0, 10_000), (1, 5.0, 100)]
)
def test_the_shortest_span_is_100_ticks_and_10_readings(
    tick_ns: int, call_ns: float, shortest: int
) -> None:
    assert clock.shortest_ns(Clock("c", tick_ns, call_ns)) == shortest


def test_long_calls_are_timed_one_by_one() -> None:
    raw = samples_of(1_000_000)
    assert raw.calls_per_sample == 1
    assert set(raw.caller_ns.tolist()) == {1_000_050}
    assert raw.runtime_ns is None


def test_short_calls_are_timed_in_batches_and_given_per_call() -> None:
    raw = samples_of(200)
    assert raw.calls_per_sample == 4  # 1000 ns wanted, 250 seen
    assert set(raw.caller_ns.tolist()) == {(4 * 200 + 50) // 4}


def test_calls_that_take_no_time_are_no_figure() -> None:
    with pytest.raises(ClockError, match=r"needs 500 ns|too short"):
        samples_of(0)


def test_a_coarse_clock_refuses_what_a_tick_cannot_tell() -> None:
    coarse = Clock("coarse", 100_000, 50.0)
    with pytest.raises(ClockError, match="coarse"):
        clock.require_long_enough(100 * 100_000.0, 1_000, coarse)
    with pytest.raises(ClockError, match="too short to time"):
        clock.calls_per_sample([0, 0, 0], Clock("stuck", 10**9, 10**18))


def test_the_runtimes_own_latency_stands_beside_the_callers() -> None:
    raw = samples_of(1_000_000, own=999_000)
    assert raw.runtime_ns is not None
    assert raw.runtime_ns.shape == raw.caller_ns.shape
    assert set(raw.runtime_ns.tolist()) == {999_000}


def test_batches_of_calls_leave_out_the_runtimes_own_latency() -> None:
    assert samples_of(200, own=1).runtime_ns is None


def test_steady_calls_stop_by_precision_at_the_first_check() -> None:
    raw = samples_of(100_000)
    assert (raw.stopped_by, len(raw.caller_ns)) == ("precision", 20)


def test_the_minimum_time_is_kept_and_the_maximum_caps_inside_a_block() -> None:
    wish = Scenario(min_duration_s=0.02, max_duration_s=9.0, min_samples=20)
    assert 0.02 <= samples_of(100_000, wish).wall_ns / 1e9 <= 0.03
    wish = Scenario(min_duration_s=0.0, max_duration_s=0.001, min_samples=1_000)
    raw = samples_of(100_000, wish)
    assert raw.stopped_by == "max_duration"
    assert len(raw.caller_ns) == 10


def test_a_call_longer_than_the_maximum_still_gives_one_sample() -> None:
    wish = Scenario(min_duration_s=0.0, max_duration_s=0.001, min_samples=20)
    raw = samples_of(5_000_000, wish)
    assert (len(raw.caller_ns), raw.stopped_by) == (1, "max_duration")


def test_laps_must_fill_the_wall_time() -> None:
    clock.require_agreement(0.95e9, 1e9, 10, GOOD)
    with pytest.raises(ClockError, match=r"sum to 500\.000 ms but the loop took 1000\.000 ms"):
        clock.require_agreement(0.5e9, 1e9, 10, GOOD)
    with pytest.raises(ClockError, match="but the loop took"):
        clock.require_agreement(1.01e9, 1e9, 10, GOOD)


def test_others_may_run_between_two_laps() -> None:
    clock.require_agreement(120_000.0, 30_000_000.0, 20, GOOD)


def test_the_collector_rests_in_the_loop_and_is_put_back() -> None:
    time = FakeClock()
    session = FakeSession(time, 100_000)
    timing_loop.measure(session.infer, None, [100_000], BRIEF, GOOD, time)
    assert session.collected
    assert not any(session.collected)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_the_collector_stays_off_where_it_was_off() -> None:
    gc.disable()
    try:
        with timing_loop.collector_off():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_warm_up_runs_for_its_time_and_at_least_once() -> None:
    time = FakeClock()
    session = FakeSession(time, 1_000_000)
    raw = timing_loop.warm_up(session.infer, 0.1, time)
    assert session.calls == 100
    assert len(raw) == 64
    assert np.median(raw) == 1_000_050
    assert len(timing_loop.warm_up(FakeSession(time, 50_000_000).infer, 0.0, time)) == 1


def test_a_warm_up_of_no_time_still_gives_a_pilot() -> None:
    time = FakeClock()
    assert len(timing_loop.warm_up(FakeSession(time, 100_000).infer, 0.0, time)) == 16
    assert len(timing_loop.warm_up(FakeSession(time, 2_000_000).infer, 0.0, time)) == 5


def test_a_stall_while_reading_the_clock_is_not_its_cost() -> None:
    time = FakeClock()
    readings = iter(range(30_000))

    def stalling() -> int:
        time.true_ns += 10_000_000 if next(readings) in (5, 7_777, 15_000) else 0
        return time()

    assert clock.characterise(stalling, "c").call_ns == 50.0


@pytest.mark.parametrize("kind", ["server", "multi_stream", "sustained", "x"])
def test_other_kinds_of_load_are_refused_with_what_is_accepted(kind: str) -> None:
    with pytest.raises(UnsupportedScenario, match="accepted: single_stream"):
        find_loop(Scenario(kind=kind))


@pytest.mark.parametrize(
    ("scenario", "word"),
    [
        (Scenario(concurrency=2), "concurrency"),
        (Scenario(batch_size=0), "batch_size"),
        (Scenario(percentile=100.0), "percentile"),
        (Scenario(max_duration_s=0.0), "max_duration_s"),
        (Scenario(target_relative_ci=0.0), "target_relative_ci"),
    ],
)
def test_bounds_that_no_trial_can_meet_are_refused(scenario: Scenario, word: str) -> None:
    with pytest.raises(BadOption, match=word):
        find_loop(scenario)
