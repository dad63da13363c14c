"""The scheduler goes on whatever fails, and of a database that is away its log has one line."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy.exc import OperationalError

from orchestrator.service import reconcile
from orchestrator.service.farm import Farm
from orchestrator.service.reconcile import Scheduler
from support.farms import FarmKit


def test_rounds_go_on_whatever_fails(
    sqlite_farm: FarmKit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = OperationalError("SELECT 1", {}, Exception("connection refused\nmore of it"))
    fails: list[Exception | None] = [away, away, ValueError("a bug"), away, None, away]
    done = threading.Event()
    rounds: list[int] = []

    def tick(farm: Farm, judges: bool) -> int:
        rounds.append(len(rounds))
        if len(rounds) > len(fails):
            done.set()
            return 0
        error = fails[len(rounds) - 1]
        if error is not None:
            raise error
        return 0

    monkeypatch.setattr(reconcile, "tick", tick)
    settings = sqlite_farm.farm.settings.model_copy(update={"tick_s": 0.01})
    farm = Farm(**{**vars(sqlite_farm.farm), "settings": settings})
    with Scheduler(farm):
        assert done.wait(60)
    said = [record.getMessage() for record in caplog.records if "reconcile" in record.name]
    line = "the database does not answer: (builtins.Exception) connection refused"
    # once when it goes, and once more as it goes again
    assert said == [line, "scheduler round failed; trying again", line]
