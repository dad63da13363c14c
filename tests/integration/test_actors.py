"""Who did it, as the event log has it: over HTTP, by the scheduler, from the command line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from agent.contract.api_messages import Enrolment
from agent.contract.codec import to_plain
from orchestrator.service import events
from orchestrator.service.devices import tokens
from orchestrator.service.scheduling import ingest
from orchestrator.service.scheduling.scheduler import Scheduler
from support.farms import AGENT_VERSION, FarmKit, device_facts
from support.serving import serving


@pytest.fixture
def http(sqlite_farm: FarmKit) -> Iterator[httpx.Client]:
    with serving(sqlite_farm) as served, served.http() as client:
        yield client


def token(kit: FarmKit, role: str, note: str) -> dict[str, str]:
    with kit.farm.database.transaction() as session:
        secret = tokens.issue(kit.farm, session, role, note=note)
    return {"Authorization": f"Bearer {secret}"}


def told(kit: FarmKit) -> list[tuple[str, str]]:
    return [(e.kind, e.by) for e in events.after(kit.farm, 0, 999)]


def test_each_request_is_noted_with_its_own_token(sqlite_farm: FarmKit, http: httpx.Client) -> None:
    ann, bob = token(sqlite_farm, "operator", "ann"), token(sqlite_farm, "admin", "")
    join = http.post("/devices/pi-01/join-token", json={}, headers=ann).json()
    enrolment = Enrolment(join["join_token"], "pi-01", AGENT_VERSION, device_facts("pi-01"))
    assert http.post("/enroll", json=to_plain(enrolment)).status_code == 200
    http.post("/devices/pi-01/drain", headers=bob)
    http.post("/devices/pi-01/enable", headers=ann)
    assert told(sqlite_farm) == [
        ("device_added", "operator ann (token 1)"),
        ("device_joined", "device pi-01"),
        ("device_drained", "admin (token 2)"),
        ("device_enabled", "operator ann (token 1)"),
    ]
    answer = http.get("/events?kind=device_joined", headers=ann).json()
    assert [(e["by"], e["subject"], e["data"]) for e in answer] == [
        ("device pi-01", "pi-01", {"device_class": "intel-cpu"})
    ]


def test_what_a_device_hands_in_is_its_own_and_what_the_scheduler_takes_back_is_its(
    sqlite_farm: FarmKit, http: httpx.Client
) -> None:
    kit = sqlite_farm
    kit.add_model()
    mine = {"Authorization": f"Bearer {kit.enrol('board').token}"}
    board = kit.device_id("board")
    kit.beat(board)
    kit.submit(trials=2)
    kit.beat(board)
    attempt = kit.last_rung()
    http.put(f"/attempts/{attempt}/result", json=to_plain(kit.ok(attempt)), headers=mine)
    assert ("trial_ended", "device board") in told(kit)
    ingest.start_attempt(kit.farm, board, kit.last_rung())
    kit.clock.advance(1000)
    quick = kit.farm.settings.model_copy(update={"lease_s": 0.2})
    with Scheduler(replace(kit.farm, settings=quick)):  # it looks for a lease before it judges
        deadline = time.monotonic() + 30
        while "attempt_lost" not in dict(told(kit)) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert dict(told(kit))["attempt_lost"] == "scheduler"


def test_a_sweep_is_deleted_over_http_by_operators_alone(
    sqlite_farm: FarmKit, http: httpx.Client
) -> None:
    kit = sqlite_farm
    kit.add_model()
    board = kit.device("board")
    kit.submit()
    kit.beat(board)
    ann = token(kit, "operator", "ann")
    assert http.delete("/sweeps/first", headers=ann).status_code == 409
    kit.give(board, kit.ok(kit.last_rung()))
    eve = token(kit, "viewer", "eve")
    assert http.delete("/sweeps/first", headers=eve).status_code == 403
    assert http.delete("/sweeps/first").status_code == 403
    assert http.delete("/sweeps/other", headers=ann).status_code == 404
    answer = http.delete("/sweeps/first", headers=ann)
    assert (answer.status_code, answer.json()["freed_blobs"]) == (200, 1)
    assert told(kit)[-1] == ("sweep_deleted", "operator ann (token 3)")
