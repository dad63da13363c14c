"""Simulated large farms: the heartbeat interval, and the number of doorbells at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from orchestrator.domain.rate_control import MIN_DOORBELLS
from orchestrator.service import rate_control
from orchestrator.service.devices import devices as fleet
from orchestrator.service.scheduling import ingest, scheduler
from orchestrator.service.sweeps import progress
from orchestrator.service.trials import completion
from orchestrator.store.tables import Device, Sweep
from support.farms import FarmKit, build

TICK_S = 0.5


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[FarmKit]:
    """A farm with a limit of one heartbeat in ten seconds for all boards."""
    kit = build(tmp_path, beats_per_s=0.1)
    yield kit
    kit.farm.database.close()


def test_a_larger_farm_beats_less_often(slow: FarmKit) -> None:
    board = slow.device("b0")
    assert rate_control.refresh_pace(slow.farm)
    answer = slow.beat(board)
    assert (answer.heartbeat_s, answer.lease_s) == (10.0, 30.0)
    for number in range(1, 4):
        slow.device(f"b{number}")
    assert not rate_control.refresh_pace(slow.farm), "not at every tick"
    slow.clock.advance(10)
    scheduler.tick(slow.farm)
    answer = slow.beat(board)
    assert (answer.heartbeat_s, answer.lease_s) == (40.0, 120.0)
    slow.clock.advance(119)
    scheduler.tick(slow.farm)
    assert fleet.device(slow.farm, "b0").connection == "online"
    slow.clock.advance(1)
    assert fleet.device(slow.farm, "b0").connection == "offline"


def test_a_slower_beat_costs_no_attempt(slow: FarmKit) -> None:
    slow.add_model()
    board = slow.device("b0")
    for number in range(1, 4):
        slow.device(f"b{number}")
    slow.submit(devices="{names: [b0]}")
    assert scheduler.tick(slow.farm) == 1
    attempt = slow.last_rung()
    assert ingest.start_attempt(slow.farm, board, attempt).lease_s == 120.0
    for _ in range(4):
        slow.clock.advance(slow.beat(board, attempt).heartbeat_s)
        scheduler.tick(slow.farm)
    slow.give(board, slow.ok(attempt))
    assert slow.states() == ["done"]


def test_boards_that_left_do_not_make_the_others_seem_offline(slow: FarmKit) -> None:
    board = slow.device("b0")
    for number in range(1, 4):
        slow.device(f"b{number}")
    for _ in range(500):  # longer than an hour, and then another
        rate_control.refresh_pace(slow.farm)
        told_s = slow.beat(board).heartbeat_s
        slow.clock.advance(told_s - 0.001)
        rate_control.refresh_pace(slow.farm)
        assert fleet.device(slow.farm, "b0").connection == "online"
    assert told_s == 10.0
    assert rate_control.current_pace(slow.farm).offline_after_s == 30.0


def crowd(kit: FarmKit, boards: int) -> dict[str, int]:
    """Online devices, each with a trial; name → id."""
    kit.add_model()
    like = kit.device_id("b0") if kit.enrol("b0") else 0
    with kit.farm.database.transaction() as session:
        first = session.get_one(Device, like)
        first.seen_at = kit.clock.at
        row = {
            "device_class": first.device_class,
            "facts": first.facts,
            "agent_version": first.agent_version,
            "seen_at": kit.clock.at,
        }
        session.execute(insert(Device), [{**row, "name": f"b{n}"} for n in range(1, boards)])
    kit.submit()
    with kit.farm.database.transaction() as session:
        return dict(session.execute(select(Device.name, Device.id)).all())


def stay(kit: FarmKit) -> None:
    with kit.farm.database.transaction() as session:
        session.execute(update(Device).values(seen_at=kit.clock.at))


def test_a_mass_start_at_a_slow_controller_wastes_no_attempt(farm: FarmKit) -> None:
    """The controller starts two boards a second, in the order of their doorbells: were all
    published at once, the last would wait for twice a doorbell's lifetime."""
    devices = crowd(farm, 120)
    waiting: deque[tuple[str, str]] = deque()
    most = 0
    for _ in range(400):
        farm.doorbells.published.clear()
        scheduler.tick(farm.farm)
        waiting += farm.doorbells.published
        most = max(most, len(waiting))
        if not waiting:
            break
        device, attempt = waiting.popleft()
        ingest.start_attempt(farm.farm, devices[device], attempt)
        farm.give(devices[device], farm.ok(attempt))
        farm.clock.advance(TICK_S)
        stay(farm)
    assert set(farm.states()) == {"done"}
    assert most <= MIN_DOORBELLS
    assert [a.number for a in farm.attempts()] == [1] * 120
    assert progress.sweep(farm.farm, "first").state == "done"


def test_a_mass_start_at_a_fast_controller_is_soon_done(farm: FarmKit) -> None:
    devices = crowd(farm, 300)
    rung = []
    while len(farm.attempts()) < 300:
        farm.doorbells.published.clear()
        rung.append(scheduler.tick(farm.farm))
        for device, attempt in farm.doorbells.published:
            ingest.start_attempt(farm.farm, devices[device], attempt)
        farm.clock.advance(TICK_S)
    assert rung == [50, 50, 100, 100]


def test_deaf_boards_do_not_hold_the_others_up_for_long(farm: FarmKit) -> None:
    devices = crowd(farm, 130)
    hearing = {f"b{n}" for n in range(100, 130)}
    started = set()
    for _ in range(100):
        farm.doorbells.published.clear()
        scheduler.tick(farm.farm)
        for device, attempt in farm.doorbells.published:
            if device in hearing:
                farm.give(devices[device], farm.ok(attempt))
                started.add(device)
        if started == hearing:
            break
        farm.clock.advance(1)
        stay(farm)
    assert started == hearing


def test_a_heartbeat_rings_only_where_there_is_room(farm: FarmKit) -> None:
    devices = crowd(farm, MIN_DOORBELLS + 2)
    assert scheduler.tick(farm.farm) == MIN_DOORBELLS
    assert scheduler.tick(farm.farm) == 0
    late = set(devices) - {device for device, _ in farm.doorbells.published}
    for name in late:
        farm.beat(devices[name])
    assert len(farm.doorbells.published) == MIN_DOORBELLS
    for device, attempt in farm.doorbells.published[:2]:
        ingest.start_attempt(farm.farm, devices[device], attempt)
    assert scheduler.tick(farm.farm) == 2


def test_a_sweep_whose_controller_died_after_the_last_result_is_closed(farm: FarmKit) -> None:
    farm.add_model()
    board = farm.device()
    farm.submit(trials=1)
    farm.beat(board)
    attempt = farm.last_rung()
    measured = ingest.accept_measurement(farm.farm, board, attempt, farm.ok(attempt))
    assert measured is not None
    assert measured.next is None
    with farm.farm.database.transaction() as session:
        assert session.scalars(select(Sweep.finished_at)).one() is None
    farm.clock.advance(10)
    scheduler.tick(farm.farm)
    assert progress.sweep(farm.farm, "first").state == "done"
    completion.finish_forgotten_sweeps(farm.farm)
