"""The verdict over a storm finds each violation; a seed replays its schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import update

from chaos.processes import Process
from chaos.schedule import SIMULATED_BOARD_FAULTS, STORM_FAULTS, plan
from chaos.servers import Servers
from chaos.verdict import Verdict, judge_logs, judge_storm, open_trials
from orchestrator.service.scheduling import ingest
from orchestrator.store.tables import Attempt, Trial
from support.farms import FarmKit, build
from support.simulated_boards import measured

TRIALS = 3


@dataclass
class Measured:
    """A farm whose only sweep was measured by a simulated board, and the answers to its results."""

    kit: FarmKit
    servers: Servers
    answers: dict[str, tuple[int, bool]]

    def verdict(self) -> Verdict:
        return judge_storm(self.servers, TRIALS, self.answers, self.servers.home / "blobs")

    def change_first(self, **values: object) -> None:
        """Change the first attempt's row."""
        with self.kit.farm.database.transaction() as session:
            first = Attempt.id == self.kit.attempts()[0].id
            session.execute(update(Attempt).where(first).values(**values))


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Measured]:
    kit = build(tmp_path)
    device = kit.device()
    kit.add_model()
    kit.submit(trials=TRIALS)
    kit.beat(device)
    answers = {}
    for _ in range(TRIALS):
        attempt_id = kit.last_rung()
        ingest.start_attempt(kit.farm, device, attempt_id)
        result, blob = measured(attempt_id)
        kit.farm.blobs.put(blob)
        kit.give(device, result)
        answers[attempt_id] = (200, True)
    servers = Servers("127.0.0.1", None, None, [], kit.farm.settings.home, 0)
    yield Measured(kit, servers, answers)
    servers.database.close()
    kit.farm.database.close()


def test_no_violation_is_found_in_a_good_farm(farm: Measured) -> None:
    verdict = farm.verdict()
    assert verdict.wrong == []
    assert verdict.good
    with farm.servers.rows() as session:
        assert open_trials(session) == 0
    assert verdict.line(7, 5) == f"trials {TRIALS} lost 0 doubled 0 faults 7 seed 5"


def _lost(farm: Measured) -> None:
    farm.change_first(accepted=False)


def _open(farm: Measured) -> None:
    with farm.kit.farm.database.transaction() as session:
        first = Trial.id == farm.kit.trials()[0].id
        session.execute(update(Trial).where(first).values(state="running"))


def _samples_of_another(farm: Measured) -> None:
    first, second = farm.kit.attempts()[:2]
    farm.change_first(result=dict(second.result or {}, attempt_id=first.id))


def _damaged(farm: Measured) -> None:
    result = farm.kit.attempts()[0].result or {}
    path = farm.kit.farm.blobs.path(result["samples"]["sha256"])
    path.write_bytes(path.read_bytes()[::-1])


def _answered_otherwise(farm: Measured) -> None:
    farm.answers[farm.kit.attempts()[0].id] = (409, True)


def _orphan(farm: Measured) -> None:
    farm.kit.farm.blobs.put(b"an orphan")


@pytest.mark.parametrize(
    ("harm", "lost", "doubled", "words"),
    [
        (_lost, 1, 0, "0 results count"),
        (_open, 1, 0, "is running (with its device)"),
        (_samples_of_another, 0, 1, "another's samples"),
        (_damaged, 0, 0, "is damaged"),
        (_answered_otherwise, 0, 0, "its board was not told so"),
        (_orphan, 0, 0, "used by nothing"),
    ],
)
def test_each_violation_is_found(
    farm: Measured, harm: Callable[[Measured], None], lost: int, doubled: int, words: str
) -> None:
    harm(farm)
    verdict = farm.verdict()
    assert not verdict.good
    assert (verdict.lost, verdict.doubled) == (lost, doubled)
    assert any(words in line for line in verdict.wrong), verdict.wrong


def test_the_logs_are_read(tmp_path: Path) -> None:
    controller, postgres = tmp_path / "up.log", tmp_path / "postgres.log"
    controller.write_text("Traceback (most recent call last):\n")
    postgres.write_text("2026 [1] ERROR:  deadlock detected\n2026 [1] ERROR:  something else\n")
    verdict = Verdict(1)
    errors = judge_logs([Process("the controller", [], controller, {})], postgres, verdict)
    assert errors["something else"] == 1
    assert verdict.wrong == [
        "the controller has 1 tracebacks in its log",
        "PostgreSQL broke up 1 deadlocks",
    ]


def test_a_seed_replays_the_schedule() -> None:
    assert plan(7, 100, STORM_FAULTS) == plan(7, 100, STORM_FAULTS)
    assert plan(7, 100, STORM_FAULTS) != plan(8, 100, STORM_FAULTS)
    drawn = {fault.kind for fault in plan(9, len(STORM_FAULTS), STORM_FAULTS)}
    assert drawn == set(STORM_FAULTS) > set(SIMULATED_BOARD_FAULTS)
