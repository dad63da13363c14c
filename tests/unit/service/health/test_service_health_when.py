"""When boards are checked, and by whom at once, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import func, select

from agent.contract.trial import Failure
from orchestrator.domain.errors import Conflict, NotFound
from orchestrator.service.devices import devices, registration
from orchestrator.service.health import health_checks
from orchestrator.service.scheduling import ingest, scheduler
from orchestrator.service.sweeps import progress, sweeps
from orchestrator.store.tables import Device, Sweep, Trial
from support.at_once import at_once
from support.checked import EVERY_S, FRESH_S, check, condition, later, latest, ready, run, rung
from support.farms import FarmKit, device_facts, failed, judged, spec_text


def test_a_board_is_checked_on_schedule(farm: FarmKit, board: int) -> None:
    run(farm, board, rung(farm))
    later(farm, board, EVERY_S - 1)
    assert scheduler.tick(farm.farm) == 0
    later(farm, board, 1)
    rung(farm)
    assert latest(farm).why == "schedule"


def test_before_a_sweep_those_that_had_none_lately(farm: FarmKit, board: int) -> None:
    run(farm, board, rung(farm))
    later(farm, board, FRESH_S)
    farm.submit("soon")
    assert latest(farm).ended_at is not None, "its last one is fresh enough"
    sweeps.cancel(farm.farm, "soon")
    later(farm, board, 1)
    farm.submit("late")
    assert (latest(farm).why, latest(farm).state) == ("before sweep late", "pending")
    attempt = rung(farm)
    assert latest(farm).state == "dispatched"
    run(farm, board, attempt)
    sweeps.cancel(farm.farm, "late")
    later(farm, board, FRESH_S + 1)
    sweeps.resume(farm.farm, "late")
    assert latest(farm).why == "before sweep late"
    assert latest(farm).ended_at is None


def test_after_a_failure_that_may_be_the_boards(farm: FarmKit, board: int) -> None:
    attempt = ready(farm, board, trials=4)
    later(farm, board, 1)
    run(farm, board, attempt, failed(attempt))
    found = latest(farm)
    assert (found.why, found.ended_at) == ("after failure", None)
    farm.give(board, failed(attempt))
    assert len(health_checks.latest_checks(farm.farm, "board", 9)) == 2, (
        "the same result asks for no other"
    )
    later(farm, board, 1)
    run(farm, board, farm.last_rung())
    assert latest(farm).ok
    # the same cell again: the cell is at fault
    attempt = farm.last_rung()
    later(farm, board, 1)
    run(farm, board, attempt, failed(attempt))
    assert len(health_checks.latest_checks(farm.farm, "board", 9)) == 2


def test_after_a_failure_of_the_models_own_nothing_is_checked(farm: FarmKit, board: int) -> None:
    attempt = ready(farm, board)
    later(farm, board, 1)
    bad = Failure("load", "bad_model", "cut short")
    run(farm, board, attempt, replace(failed(attempt), failure=bad))
    assert latest(farm).why == "before sweep first"


def test_after_a_lost_lease(farm: FarmKit, board: int) -> None:
    ingest.start_attempt(farm.farm, board, ready(farm, board))
    farm.clock.advance(farm.farm.settings.lease_s + 1)
    scheduler.tick(farm.farm)
    assert (latest(farm).why, latest(farm).state) == ("after failure", "pending")
    assert progress.sweep(farm.farm, "first").counts == {"pending": 1}
    farm.beat(board)
    run(farm, board, farm.last_rung())
    assert latest(farm).ok, "what was rung for first was the check"


def test_a_drained_board_is_checked_only_when_somebody_asks(farm: FarmKit, board: int) -> None:
    devices.set_enabled(farm.farm, "board", False)
    assert scheduler.tick(farm.farm) == 0
    devices.set_enabled(farm.farm, "board", True)
    farm.submit()
    devices.set_enabled(farm.farm, "board", False)
    assert latest(farm).why == "before sweep first"
    assert scheduler.tick(farm.farm) == 0, "what nobody asked for waits until it is wanted again"
    health_checks.request_check(farm.farm, "board")
    run(farm, board, rung(farm))
    assert (latest(farm).why, latest(farm).ok) == ("asked for", True)
    assert scheduler.tick(farm.farm) == 0
    assert progress.sweep(farm.farm, "first").counts == {"pending": 1}


def test_in_maintenance_it_is_given_checks_only(farm: FarmKit, board: int) -> None:
    check(farm, board)
    farm.submit()
    assert health_checks.set_maintenance(farm.farm, "board", True).health == "maintenance"
    assert scheduler.tick(farm.farm) == 0
    assert progress.sweep(farm.farm, "first").held == {"board": "in maintenance"}
    assert check(farm, board).ok
    assert condition(farm) == ("maintenance", 0)
    later(farm, board, 2 * EVERY_S)
    assert scheduler.tick(farm.farm) == 0
    assert health_checks.set_maintenance(farm.farm, "board", False).health == "unknown"
    assert latest(farm).why == "after maintenance"
    run(farm, board, rung(farm))
    assert condition(farm) == ("good", 0)
    run(farm, board, farm.last_rung(), farm.ok(farm.last_rung()))
    assert progress.sweep(farm.farm, "first").state == "done"


def test_with_checks_turned_off_only_a_wish_starts_one(
    farm_on: Callable[..., FarmKit], database_url: str
) -> None:
    farm = farm_on(database_url)
    farm.add_model()
    board = farm.device()
    assert scheduler.tick(farm.farm) == 0
    farm.submit()
    attempt = rung(farm)
    later(farm, board, 1)
    run(farm, board, attempt, failed(attempt))
    assert health_checks.latest_checks(farm.farm, "board", 9) == []
    assert check(farm, board).ok


def test_who_cannot_be_checked_is_refused(farm: FarmKit) -> None:
    registration.join_token(farm.farm, "promised")
    with pytest.raises(Conflict, match="not joined"):
        health_checks.request_check(farm.farm, "promised")
    farm.enrol("silent", device_facts("silent", ()))
    with pytest.raises(Conflict, match="what it can run"):
        health_checks.request_check(farm.farm, "silent")
    with pytest.raises(NotFound, match="promised, silent"):
        health_checks.request_check(farm.farm, "nobody")
    assert farm.rows()["health_checks"] == farm.rows()["trials"] == 0


def test_asking_twice_asks_for_one(farm: FarmKit, board: int) -> None:
    assert (
        health_checks.request_check(farm.farm, "board").id
        == health_checks.request_check(farm.farm, "board").id
    )
    assert farm.rows()["trials"] == 1


def test_schedulers_side_by_side_ask_for_one(farm: FarmKit, board: int) -> None:
    farm.submit(trials=3)
    for _ in range(3):
        later(farm, board, EVERY_S)
        tick, ask = (
            partial(scheduler.tick, farm.farm),
            partial(health_checks.request_check, farm.farm, "board"),
        )
        at_once([*[tick] * 6, ask])
        open_ = [
            c for c in health_checks.latest_checks(farm.farm, "board", 99) if c.ended_at is None
        ]
        assert len(open_) == 1
        assert [t.state for t in farm.trials()].count("dispatched") == 1
        run(farm, board, farm.last_rung())
        attempt = farm.last_rung()
        run(farm, board, attempt, farm.ok(attempt))


def test_verdicts_beats_and_doorbells_at_once_lock_nobody_out(farm: FarmKit, board: int) -> None:
    """A wrong order of locks is a deadlock on PostgreSQL, and a wait on SQLite."""
    for _ in range(6):
        health_checks.request_check(farm.farm, "board")
        attempt = rung(farm)
        ingest.start_attempt(farm.farm, board, attempt)
        given = judged(farm.ok(attempt))
        outcomes = at_once(
            [
                partial(farm.give, board, given),
                partial(farm.beat, board, attempt),
                partial(scheduler.tick, farm.farm),
                partial(health_checks.judge_ended_check, farm.farm, board),
                partial(health_checks.set_maintenance, farm.farm, "board", False),
                partial(devices.device, farm.farm, "board"),
            ]
        )
        assert not [o for o in outcomes if isinstance(o, Exception)], outcomes
        assert latest(farm).ok


def test_sweeps_submitted_at_once_ask_for_one(farm: FarmKit, board: int) -> None:
    other = farm.device("other")
    submits = [
        partial(sweeps.submit, farm.farm, spec_text(f"s{n}"), "sweep.yaml") for n in range(4)
    ]
    beats = [partial(farm.beat, board), partial(farm.beat, other)]
    outcomes = at_once([*submits, *beats])
    assert not [o for o in outcomes if isinstance(o, Exception)], outcomes
    with farm.farm.database.read_session() as session:
        hidden = session.scalars(select(Sweep.id).where(Sweep.kind == "health"))
        assert [
            session.scalar(select(func.count()).where(Trial.sweep_id == i)) for i in hidden
        ] == [1, 1]


def test_one_boards_trouble_keeps_no_other_from_its_work(
    farm: FarmKit, board: int, caplog: pytest.LogCaptureFixture
) -> None:
    farm.device("other")
    with farm.farm.database.transaction() as session:
        session.get_one(Device, board).facts = {"hostname": "damaged"}
    assert scheduler.tick(farm.farm) == 1
    assert [name for name, _ in farm.doorbells.published] == ["other"]
    assert "health of device" in caplog.text
