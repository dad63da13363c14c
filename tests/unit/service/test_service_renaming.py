"""A device gets another name: what follows it, what is refused, and what its board has to do."""

from __future__ import annotations

import pytest

from agent.contract.api_messages import Enrolment
from orchestrator.domain.errors import Conflict, NotAllowed, NotFound, UserError
from orchestrator.service import events
from orchestrator.service.devices import devices, registration, renaming, retirement, tokens
from orchestrator.service.events import EventFilter
from orchestrator.service.health import health_checks
from orchestrator.service.sweeps import report_data, sweeps
from support.farms import AGENT_VERSION, BROKER_URL, FarmKit, device_facts


def test_what_was_measured_and_said_of_a_device_follows_it(farm: FarmKit) -> None:
    farm.add_model()
    old = farm.enrol("old", bench="1")
    board = farm.device_id("old")
    farm.beat(board)
    farm.submit(devices="{names: [old]}", more="baseline: {device: old}\n")
    farm.beat(board)
    farm.give(board, farm.ok(farm.last_rung()))
    health_checks.request_check(farm.farm, "old")
    joined = renaming.rename(farm.farm, "old", "new")
    assert joined.device == "new"
    with pytest.raises(NotFound):
        devices.device(farm.farm, "old")
    with pytest.raises(NotAllowed):
        tokens.identify(farm.farm, old.token)
    view = devices.device(farm.farm, "new")
    assert (view.tags, view.former_name, view.connection) == ({"bench": "1"}, "old", "offline")
    data = report_data.collect_sweep(farm.farm, "first")
    assert [c.device for c in data.cells] == ["new"]
    assert data.baseline["device"] == "new", "speed-ups are relative to the same board"

    facts = device_facts("new")
    enrolment = Enrolment(joined.join_token, "new", AGENT_VERSION, facts)
    registration.enrol(farm.farm, enrolment, BROKER_URL)
    assert farm.device_id("new") == board
    farm.beat(board)
    view = devices.device(farm.farm, "new")
    assert (view.former_name, view.connection, view.health) == ("", "online", "unknown")
    assert health_checks.latest_checks(farm.farm, "new", 5), "its checks, too"
    found = [e.kind for e in events.find(farm.farm, EventFilter(subject="old"))]
    assert found[-1] == "device_renamed"
    assert sweeps.resume(farm.farm, "first").counts == {"done": 1}
    farm.enrol("old")  # the name is free for another board


def test_a_rename_is_refused_while_there_is_work_and_where_the_name_is_taken(
    farm: FarmKit,
) -> None:
    farm.add_model()
    board = farm.device("old")
    farm.device("taken")
    farm.submit(devices="{names: [old]}", trials=2)
    before = farm.rows()
    for to, error, says in (
        ("new", Conflict, "old has 2 trials to run: wait for their end"),
        ("taken", Conflict, "there is a device 'taken' already"),
        ("New", UserError, "device name 'New': expected 1 to 63 of a-z"),
        ("x" * 80, UserError, "expected 1 to 63"),
    ):
        with pytest.raises(error, match=says):
            renaming.rename(farm.farm, "old", to)
    with pytest.raises(NotFound, match="there is no device 'odl'; known: old, taken"):
        renaming.rename(farm.farm, "odl", "new")
    assert farm.rows() == before
    for _ in range(2):
        farm.beat(board)
        farm.give(board, farm.ok(farm.last_rung()))
    health_checks.request_check(farm.farm, "old")
    farm.beat(board)  # it is given the check
    with pytest.raises(Conflict, match="old runs a health check now"):
        renaming.rename(farm.farm, "old", "new")
    retirement.retire(farm.farm, "old")
    with pytest.raises(Conflict, match="old is retired: its name stays with its measurements"):
        renaming.rename(farm.farm, "old", "new")
