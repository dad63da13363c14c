"""The scheduler goes on after any error, and logs an outage of the database once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy.exc import OperationalError

from orchestrator.service.context import FarmContext
from orchestrator.service.health import health_checks
from orchestrator.service.scheduling import scheduler
from orchestrator.service.scheduling.scheduler import Scheduler
from support.farms import FarmKit


def test_rounds_go_on_whatever_fails(
    sqlite_farm: FarmKit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = OperationalError("SELECT 1", {}, Exception("connection refused\nmore of it"))
    fails: list[Exception | None] = [away, away, ValueError("a bug"), away, None, away]
    done = threading.Event()
    rounds: list[int] = []

    def tick(farm: FarmContext, leases_count: bool) -> int:
        rounds.append(len(rounds))
        if len(rounds) > len(fails):
            done.set()
            return 0
        error = fails[len(rounds) - 1]
        if error is not None:
            raise error
        return 0

    monkeypatch.setattr(scheduler, "tick", tick)
    settings = sqlite_farm.farm.settings.model_copy(update={"tick_s": 0.01})
    farm = FarmContext(**{**vars(sqlite_farm.farm), "settings": settings})
    with Scheduler(farm):
        assert done.wait(60)
    said = [record.getMessage() for record in caplog.records if "scheduler" in record.name]
    line = "the database does not answer: (builtins.Exception) connection refused"
    # one line for each outage
    assert said == [line, "scheduler round failed; trying again", line]


def test_a_database_that_goes_away_during_the_health_round_is_no_boards_trouble(
    farm_on: Callable[..., FarmKit],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kit = farm_on("", health_every_s=60.0)
    kit.device("one")
    kit.device("two")
    asked: list[int] = []
    errors: list[Exception] = [OperationalError("SELECT 1", {}, Exception("gone")), KeyError("a")]

    def ask(_farm: FarmContext, device_id: int) -> None:
        asked.append(device_id)
        raise errors[0]

    monkeypatch.setattr(health_checks, "_request_if_due", ask)
    with pytest.raises(OperationalError):
        health_checks.run_round(kit.farm)
    assert (len(asked), caplog.records) == (1, [])
    errors.pop(0)
    health_checks.run_round(kit.farm)
    assert len(asked) == 3, "what one board alone is in trouble with keeps no other waiting"
    assert len(caplog.records) == 2
