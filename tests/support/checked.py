"""What the tests of health checks do with a farm that has one board, ``board``."""

from __future__ import annotations

from agent.contract.trial import TrialResult
from orchestrator.service.devices import devices
from orchestrator.service.health import health_checks
from orchestrator.service.scheduling import ingest, scheduler
from orchestrator.service.views import HealthCheckView
from orchestrator.store.tables import Device
from support.farms import FarmKit, judged

EVERY_S, RETRY_S, FRESH_S = 3600.0, 300.0, 600.0


def latest(farm: FarmKit) -> HealthCheckView:
    return health_checks.latest_checks(farm.farm, "board", 1)[0]


def condition(farm: FarmKit) -> tuple[str, int]:
    found = devices.device(farm.farm, "board")
    return found.health, found.checks_failed


def rung(farm: FarmKit) -> str:
    """Have the scheduler ring once; the attempt."""
    before = len(farm.doorbells.published)
    scheduler.tick(farm.farm)
    assert len(farm.doorbells.published) == before + 1, "the board was not rung for"
    return farm.last_rung()


def run(farm: FarmKit, board: int, attempt_id: str, result: TrialResult | None = None) -> None:
    """Start the attempt that was rung for, and hand in its result: a good check's."""
    ingest.start_attempt(farm.farm, board, attempt_id)
    farm.give(board, result or judged(farm.ok(attempt_id)))


def check(farm: FarmKit, board: int, *, right: bool = True, ns: int = 1000) -> HealthCheckView:
    """Ask for a check, run it, and how it was judged."""
    asked = health_checks.request_check(farm.farm, "board")
    attempt = rung(farm)
    run(farm, board, attempt, judged(farm.ok(attempt, [ns] * 3), right=right))
    ended = latest(farm)
    assert (ended.id, ended.state) == (asked.id, "ended")
    return ended


def later(farm: FarmKit, board: int, seconds: float) -> None:
    """Time goes by, and the board beats."""
    farm.clock.advance(seconds)
    with farm.farm.database.transaction() as session:
        session.get_one(Device, board).seen_at = farm.clock()


def wrong(farm: FarmKit, board: int) -> None:
    """Two checks with wrong outputs: quarantine."""
    check(farm, board, right=False)
    check(farm, board, right=False)
    assert condition(farm) == ("bad", 2)


def ready(farm: FarmKit, board: int, trials: int = 1, name: str = "first") -> str:
    """A board that was just found good, with a sweep's first trial rung for."""
    farm.submit(name, trials=trials)
    run(farm, board, rung(farm))
    return farm.last_rung()
