"""The event log: connections of devices, what a subject covers, and which kinds there are."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

import orchestrator
from orchestrator.domain.errors import UserError
from orchestrator.domain.event_kinds import EVENT_KINDS
from orchestrator.service import current_actor, events
from orchestrator.service.devices import devices, retirement
from orchestrator.service.events import EventFilter
from orchestrator.service.scheduling import scheduler
from orchestrator.service.sweeps import sweeps
from support.farms import FarmKit

CONNECTION = ("device_online", "device_offline")
OFFLINE_AFTER = 60


def kinds(farm: FarmKit, subject: str = "", kind: str = "") -> list[str]:
    return [e.kind for e in events.find(farm.farm, EventFilter(subject=subject, kind=kind))]


def connection_events(farm: FarmKit) -> list[tuple[str, str]]:
    found = events.find(farm.farm, EventFilter())
    return [(e.kind, e.subject) for e in found if e.kind in CONNECTION]


def test_a_device_that_goes_offline_and_comes_back_is_two_events(farm: FarmKit) -> None:
    first, second = farm.device("a"), farm.device("b")
    for _ in range(3):
        scheduler.tick(farm.farm)
    assert connection_events(farm) == [("device_online", "a"), ("device_online", "b")]
    farm.clock.advance(OFFLINE_AFTER)
    farm.beat(second)
    heard = farm.clock() - timedelta(seconds=OFFLINE_AFTER)
    for _ in range(3):
        scheduler.tick(farm.farm)
    last = events.find(farm.farm, EventFilter(latest=True, limit=1))[0]
    assert (last.kind, last.subject) == ("device_offline", "a")
    assert last.data["last_heartbeat"] == heard.isoformat()
    farm.beat(first)
    scheduler.tick(farm.farm)
    assert connection_events(farm)[2:] == [("device_offline", "a"), ("device_online", "a")]


def test_silence_while_nobody_listened_is_no_event(farm: FarmKit) -> None:
    """The controller was down: every board was silent, and none went away."""
    device = farm.device("a")
    scheduler.tick(farm.farm)
    farm.clock.advance(OFFLINE_AFTER)
    scheduler.tick(farm.farm, leases_count=False)
    assert connection_events(farm) == [("device_online", "a")]
    farm.beat(device)
    scheduler.tick(farm.farm)
    assert connection_events(farm) == [("device_online", "a")]


def test_a_retired_device_does_not_go_offline(farm: FarmKit) -> None:
    farm.add_model()
    farm.device("a")
    scheduler.tick(farm.farm)
    farm.submit()
    retirement.retire(farm.farm, "a")
    farm.clock.advance(OFFLINE_AFTER)
    scheduler.tick(farm.farm)
    assert connection_events(farm) == [("device_online", "a")]


def test_a_subject_covers_what_it_caused_and_what_names_it(farm: FarmKit) -> None:
    farm.add_model()
    a, b = farm.device("a"), farm.device("b")
    with current_actor.acting_as("operator ann (token 3)"):
        farm.submit()
        devices.set_enabled(farm.farm, "b", False, "a new fan")
    farm.beat(a)
    with current_actor.acting_as("device a"):
        farm.give(a, farm.ok(farm.last_rung()))
    with current_actor.acting_as("scheduler"):
        devices.set_enabled(farm.farm, "b", True)
        farm.beat(b)
        attempt = farm.last_rung()
        from orchestrator.service.scheduling import ingest

        ingest.start_attempt(farm.farm, b, attempt)
        farm.clock.advance(3600)
        scheduler.reclaim(farm.farm)
    assert kinds(farm, "a") == ["device_added", "device_joined", "trial_ended"]
    assert "attempt_lost" in kinds(farm, "b")
    assert kinds(farm, "first") == ["sweep_submitted", "trial_ended", "attempt_lost"]
    assert kinds(farm, "ann") == ["sweep_submitted", "device_drained"]
    assert kinds(farm, "an") == kinds(farm, "%") == []
    note = next(e for e in events.find(farm.farm, EventFilter(kind="device_drained")))
    assert note.data["note"] == "a new fan"


@pytest.mark.parametrize("kind", ["device_ofline", "x", "Device_offline", "trial"])
def test_a_kind_that_there_is_not_is_refused_with_those_that_there_are(
    sqlite_farm: FarmKit, kind: str
) -> None:
    with pytest.raises(UserError) as caught:
        kinds(sqlite_farm, kind=kind)
    assert f"--kind '{kind}'" in str(caught.value)
    assert ", ".join(sorted(EVENT_KINDS)) in str(caught.value)
    if kind == "device_ofline":
        assert "did you mean 'device_offline'?" in str(caught.value)


def test_a_kind_of_another_version_that_the_log_has_is_found(sqlite_farm: FarmKit) -> None:
    with sqlite_farm.farm.database.transaction() as session:
        sqlite_farm.farm.record_event(session, "moon_rose", "moon")
    assert kinds(sqlite_farm, kind="moon_rose") == ["moon_rose"]


def test_every_kind_that_is_recorded_is_listed() -> None:
    """And every one that is listed is recorded somewhere."""
    folder = Path(orchestrator.__file__).parent
    source = "\n".join(p.read_text("utf-8") for p in folder.rglob("*.py"))
    calls = re.findall(r"(?:record_event|event_row)\(([^)]{1,120})", source)
    written = set(re.findall(r'"([a-z]+(?:_[a-z]+)+)"', "\n".join(calls)))
    written |= {"sweep_deleted", "samples_pruned"}  # named by constants
    assert written == set(EVENT_KINDS)


def test_an_owner_and_a_note_are_kept(farm: FarmKit) -> None:
    farm.add_model()
    farm.device("a")
    with current_actor.acting_as("operator ann (token 3)"):
        assert farm.submit().owner == "operator ann (token 3)"
    drained = devices.set_enabled(farm.farm, "a", False, "a new fan")
    assert devices.set_enabled(farm.farm, "a", False).drain_note == drained.drain_note
    assert devices.set_enabled(farm.farm, "a", True).drain_note == ""
    for note in ("two\nlines", "x" * 201):
        with pytest.raises(UserError, match="one line of at most 200 characters"):
            devices.set_enabled(farm.farm, "a", False, note)
    assert sweeps.resume(farm.farm, "first").owner == "operator ann (token 3)"
