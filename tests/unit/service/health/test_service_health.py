"""Health checks on both databases: run, judged, their consequences, deleted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.contract import codec
from agent.contract.api_messages import Enrolment, Heartbeat
from agent.contract.device import RuntimeFacts
from agent.contract.trial import Failure, TrialResult
from orchestrator.domain.errors import NotFound, UnknownAttempt
from orchestrator.service import events
from orchestrator.service.devices import devices, health_check_rows, registration, retirement
from orchestrator.service.health import health_checks
from orchestrator.service.scheduling import dispatch, ingest, scheduler
from orchestrator.service.sweeps import duration_estimate, progress, sweeps
from orchestrator.store.health_model import canary, digest
from orchestrator.store.tables import Device
from support.checked import (
    EVERY_S,
    RETRY_S,
    check,
    condition,
    later,
    latest,
    ready,
    run,
    rung,
    wrong,
)
from support.farms import AGENT_VERSION, START, FarmKit, device_facts, failed, judged, runtime_facts


def test_a_board_that_joins_is_checked_and_found_good(farm: FarmKit, board: int) -> None:
    attempt = rung(farm)
    request = ingest.start_attempt(farm.farm, board, attempt).request
    assert (request.model.name, request.runtime.backend) == ("health-check", "onnxruntime")
    for data in canary().blobs:
        assert digest(data) in farm.blobs()
    busy = devices.device(farm.farm, "board").running
    assert busy is not None
    assert busy.words() == "health check"
    farm.give(board, judged(farm.ok(attempt, [2_000_000, 3_000_000, 4_000_000])))
    found = latest(farm)
    assert (found.why, found.ok, found.reasons) == ("registration", True, [])
    assert (found.latency_ms, found.attempt) == (3.0, attempt)
    assert found.runtime == "onnxruntime 1.31.1 on CPU"
    assert condition(farm) == ("good", 0)
    assert scheduler.tick(farm.farm) == 0


def test_checks_are_shown_nowhere_as_a_sweep(farm: FarmKit, board: int) -> None:
    check(farm, board)
    assert progress.sweeps(farm.farm) == []
    hidden = health_check_rows.hidden_sweep_name("board")
    for act in (progress.sweep, sweeps.cancel, sweeps.resume):
        with pytest.raises(NotFound, match="known: none yet"):
            act(farm.farm, hidden)
    with pytest.raises(Exception, match="name"):
        farm.submit(hidden)
    farm.submit(hidden.replace("/", "-"))
    assert [s.name for s in progress.sweeps(farm.farm)] == ["health-board"]
    kinds = {e.kind for e in events.after(farm.farm, 0, 99)}
    assert not kinds & {"trial_ended", "sweep_finished"}
    with farm.farm.database.read_session() as session:
        assert duration_estimate.Estimator(session)._alike == {}


HEALTH = ("health_check_failed", "device_quarantined", "device_restored")


def test_two_failures_quarantine_and_a_good_one_restores(farm: FarmKit, board: int) -> None:
    check(farm, board, right=False)
    assert condition(farm) == ("unknown", 1)
    check(farm, board, right=False)
    assert condition(farm) == ("bad", 2)
    farm.submit(trials=2)
    # before the sweep the board gets a check, and nothing else
    run(farm, board, rung(farm), judged(farm.ok(farm.last_rung()), right=False))
    assert scheduler.tick(farm.farm) == 0
    view = progress.sweep(farm.farm, "first")
    assert view.counts == {"pending": 2}
    assert list(view.held) == ["board"]
    assert "quarantined: its outputs are wrong" in view.held["board"]
    later(farm, board, RETRY_S)
    attempt = rung(farm)
    assert latest(farm).why == "schedule"
    run(farm, board, attempt)
    assert condition(farm) == ("good", 0)
    # after the result the sweep's first trial is dispatched at once
    run(farm, board, farm.last_rung(), farm.ok(farm.last_rung()))
    run(farm, board, farm.last_rung(), farm.ok(farm.last_rung()))
    done = progress.sweep(farm.farm, "first")
    assert (done.state, done.counts, done.held) == ("done", {"done": 2}, {})
    told = [e for e in events.after(farm.farm, 0, 99) if e.subject == "board" and e.kind in HEALTH]
    assert [e.kind for e in told] == [
        "health_check_failed", "device_quarantined", "health_check_failed", "device_restored",
    ]  # fmt: skip
    assert "outputs are wrong" in told[1].data["reasons"][0]


def test_nothing_is_rung_between_a_check_and_its_verdict(farm: FarmKit, board: int) -> None:
    farm.submit()
    attempt = rung(farm)
    ingest.start_attempt(farm.farm, board, attempt)
    given = judged(farm.ok(attempt), right=False)
    # the controller dies after this
    ingest.accept_under_sweep_lock(farm.farm, board, attempt, given)
    assert not dispatch.dispatch(farm.farm, board)
    assert latest(farm).ended_at is None
    scheduler.tick(farm.farm)
    assert latest(farm).ok is False


def test_a_check_whose_lease_runs_out_has_failed(farm: FarmKit, board: int) -> None:
    ingest.start_attempt(farm.farm, board, rung(farm))
    farm.clock.advance(farm.farm.settings.lease_s + 1)
    scheduler.tick(farm.farm)
    found = latest(farm)
    assert (found.ok, condition(farm)) == (False, ("unknown", 1))
    assert "silent" in found.reasons[0]


def test_a_doorbell_that_nobody_answered_is_no_failure(farm: FarmKit, board: int) -> None:
    first = rung(farm)
    later(farm, board, farm.farm.settings.dispatch_s + 1)
    assert rung(farm) != first
    assert latest(farm).ended_at is None


def test_an_agent_that_was_stopped_is_asked_again(farm: FarmKit, board: int) -> None:
    asked = health_checks.request_check(farm.farm, "board")
    for _ in range(3):
        attempt = rung(farm)
        shutdown = Failure("measure", "shutdown", "the agent was stopped", transient=True)
        stopped = replace(failed(attempt), status="cancelled", failure=shutdown)
        run(farm, board, attempt, stopped)
        assert (latest(farm).id, latest(farm).ended_at) == (asked.id, None)
        later(farm, board, 10)
    run(farm, board, rung(farm))
    assert (latest(farm).id, latest(farm).ok) == (asked.id, True)


@pytest.mark.parametrize("kind", ["crash", "timeout"])
def test_a_check_that_does_not_run_has_failed(farm: FarmKit, board: int, kind: str) -> None:
    attempt = rung(farm)
    run(farm, board, attempt, replace(failed(attempt), failure=Failure("load", kind, "told why")))
    assert latest(farm).ok is False
    assert latest(farm).reasons == [f"the check did not run to its end: load: {kind}: told why"]


def test_an_agent_that_died_twice_has_failed(farm: FarmKit, board: int) -> None:
    health_checks.request_check(farm.farm, "board")
    died = Failure("measure", "agent_died", "the agent ended while executing it", transient=True)
    for ends in (None, False):
        attempt = rung(farm)
        run(farm, board, attempt, replace(failed(attempt), failure=died))
        assert latest(farm).ok is ends
        later(farm, board, 5)


def test_a_slow_canary_is_held_against_the_boards_own_history(farm: FarmKit, board: int) -> None:
    for ns in (1000, 1100, 900):
        assert check(farm, board, ns=ns).ok
    assert check(farm, board, ns=1900).ok
    slow = check(farm, board, ns=2500)
    assert slow.ok is False
    assert "canary" in slow.reasons[0]
    # its power mode was changed during maintenance
    health_checks.set_maintenance(farm.farm, "board", True)
    later(farm, board, 60)
    health_checks.set_maintenance(farm.farm, "board", False)
    assert check(farm, board, ns=2500).ok


def test_another_version_of_the_runtime_has_a_history_of_its_own(farm: FarmKit, board: int) -> None:
    for _ in range(3):
        check(farm, board)
    ort, *others = runtime_facts()
    newer = (replace(ort, version="2.0"), *others)
    registration.record_facts(farm.farm, board, device_facts("board", newer))
    found = check(farm, board, ns=90_000)
    assert (found.ok, found.runtime) == (True, "onnxruntime 2.0 on CPU")


def test_vitals_come_with_heartbeats_and_are_judged(farm: FarmKit, board: int) -> None:
    ahead_ns = int((START.timestamp() + 45) * 1e9)
    ingest.record_heartbeat(farm.farm, board, Heartbeat(AGENT_VERSION, "", ahead_ns, 100.0, 95.0))
    found = devices.device(farm.farm, "board")
    assert (found.storage_free_mib, found.temperature_c) == (100.0, 95.0)
    assert found.clock_skew_s == pytest.approx(45.0, abs=0.01)
    ended = check(farm, board)
    assert ended.ok is False
    assert [("95 °C" in r, "100 MiB" in r, "45 s ahead" in r) for r in ended.reasons] == [
        (True, False, False), (False, True, False), (False, False, True),
    ]  # fmt: skip
    assert (ended.temperature_c, ended.storage_free_mib) == (95.0, 100.0)
    farm.beat(board)
    found = devices.device(farm.farm, "board")
    assert (found.clock_skew_s, found.temperature_c) == (None, None)


def test_a_controllers_wrong_clock_makes_no_board_ill(farm: FarmKit, board: int) -> None:
    others = [farm.device(f"other{number}") for number in range(2)]
    with farm.farm.database.transaction() as session:
        for number in (board, *others):
            device = session.get_one(Device, number)
            device.clock_skew_s, device.enabled = 10_800.0, number == board
    assert check(farm, board).ok


def test_a_clock_that_is_far_off_breaks_nothing(farm: FarmKit, board: int) -> None:
    for at in (10**400, -(10**300), 1):
        ingest.record_heartbeat(farm.farm, board, Heartbeat(AGENT_VERSION, "", at))
        assert abs(devices.device(farm.farm, "board").clock_skew_s or 0) > 1e8


def test_a_board_that_nothing_can_be_run_on_stays_unknown(farm: FarmKit) -> None:
    board = farm.device(facts=device_facts("board", (RuntimeFacts("x", "", "", missing="no"),)))
    scheduler.tick(farm.farm)
    found = latest(farm)
    assert (found.state, found.ok, condition(farm)) == ("ended", None, ("unknown", 0))
    assert "no runtime" in found.reasons[0]
    scheduler.tick(farm.farm)
    assert len(health_checks.latest_checks(farm.farm, "board", 9)) == 1, (
        "once, not each half second"
    )
    assert health_checks.request_check(farm.farm, "board").ok is None
    registration.record_facts(farm.farm, board, device_facts("board"))
    run(farm, board, rung(farm))
    assert condition(farm) == ("good", 0)


def test_old_checks_go_with_all_they_ran(farm: FarmKit, board: int) -> None:
    for ns in range(1, 5):
        check(farm, board, ns=ns)
    samples = [s.sha256 for s in _samples(farm)]
    with farm.farm.database.transaction() as session:
        unused = health_check_rows.delete_old_checks(session, board, kept=2, together=2)
    assert unused == set(samples[:2])
    rows = farm.rows()
    assert [rows[t] for t in ("health_checks", "trials", "attempts", "cells")] == [2] * 4
    assert [c.latency_ms for c in health_checks.latest_checks(farm.farm, "board", 9)] == [
        4e-6,
        3e-6,
    ]


def test_samples_that_a_measurement_has_too_stay(farm: FarmKit, board: int) -> None:
    check(farm, board)
    farm.submit()
    attempt = rung(farm)
    run(farm, board, attempt, farm.ok(attempt, [1000] * 3))
    check(farm, board, ns=5)
    with farm.farm.database.transaction() as session:
        assert health_check_rows.delete_old_checks(session, board, kept=1, together=1) == set()


def test_checks_that_could_not_run_are_not_heaped_up(
    farm: FarmKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_check_rows.delete_old_checks, "__defaults__", (2, 1))
    board = farm.device(facts=device_facts("board", (RuntimeFacts("x", "", "", missing="no"),)))
    for _ in range(4):
        scheduler.tick(farm.farm)
        later(farm, board, EVERY_S)
    assert farm.rows()["health_checks"] == 2


def test_more_than_are_kept(farm: FarmKit, board: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_check_rows.delete_old_checks, "__defaults__", (2, 1))
    for ns in range(1, 5):
        check(farm, board, ns=ns)
    assert farm.rows()["health_checks"] == 2
    there = farm.blobs()
    assert all(s.sha256 in there for s in _samples(farm))
    assert len(there) == 2 + len(canary().blobs) + 2, "the model's own two, and those of two checks"


def _samples(farm: FarmKit) -> list[Any]:
    found = [codec.from_plain(TrialResult, a.result).samples for a in farm.attempts() if a.result]
    return [s for s in found if s is not None]


def test_a_retired_board_leaves_no_checks(farm: FarmKit, board: int) -> None:
    attempt = ready(farm, board)
    run(farm, board, attempt, farm.ok(attempt))
    health_checks.request_check(farm.farm, "board")
    running = rung(farm)
    ingest.start_attempt(farm.farm, board, running)
    retirement.retire(farm.farm, "board")
    found = devices.device(farm.farm, "board")
    assert (found.health, found.checked_at, found.storage_free_mib) == ("unknown", None, None)
    assert farm.rows()["health_checks"] == 0
    assert progress.sweep(farm.farm, "first").counts == {"done": 1}
    with pytest.raises(UnknownAttempt):
        farm.give(board, farm.ok(running))
    assert farm.beat(board, running).cancel


def test_a_board_that_only_was_checked_is_forgotten_whole(farm: FarmKit, board: int) -> None:
    check(farm, board)
    retirement.retire(farm.farm, "board")
    rows = farm.rows()
    gone = ("devices", "health_checks", "sweeps", "cells", "trials", "attempts", "tokens")
    assert [rows[t] for t in gone] == [0] * len(gone)


def test_a_board_that_joins_anew_is_another(farm: FarmKit, board: int) -> None:
    wrong(farm, board)
    token = registration.join_token(farm.farm, "board", again=True).join_token
    enrolment = Enrolment(token, "board", AGENT_VERSION, device_facts("board"))
    registration.enrol(farm.farm, enrolment, "redis://x")
    assert condition(farm) == ("unknown", 0)
    rung(farm)
    assert latest(farm).why == "registration"
