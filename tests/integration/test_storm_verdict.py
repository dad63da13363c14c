"""The verdict over a storm finds what it is there to find; a seed replays its schedule."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

sys.path.append(str(Path(__file__).parents[2]))  # the benchmarks

from benchmarks.scale_boards import measured
from benchmarks.storm_schedule import OF_BOARDS, OF_SERVERS, plan
from benchmarks.storm_verdict import Verdict, judge, logged, still_open
from orchestrator.service.scheduling import ingest
from orchestrator.store.tables import Attempt, Trial
from support.farms import FarmKit, build

TRIALS = 3


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[FarmKit]:
    """A farm whose only sweep was measured by a played board."""
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
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    yield kit
    kit.farm.database.close()


def judged(kit: FarmKit) -> Verdict:
    home = kit.farm.settings.home
    return judge(kit.farm, TRIALS, home / "answers.json", home / "blobs")


def test_a_farm_that_is_well_is_found_well(kit: FarmKit) -> None:
    verdict = judged(kit)
    assert verdict.wrong == []
    assert verdict.good
    assert still_open(kit.farm) == 0
    assert verdict.line(7, 5) == f"trials {TRIALS} lost 0 doubled 0 faults 7 seed 5"


def _lost(kit: FarmKit) -> None:
    _first(kit, accepted=False)


def _open(kit: FarmKit) -> None:
    with kit.farm.database.transaction() as session:
        session.execute(update(Trial).where(Trial.id == kit.trials()[0].id).values(state="running"))


def _anothers_samples(kit: FarmKit) -> None:
    first, second = kit.attempts()[:2]
    _first(kit, result=dict(second.result or {}, attempt_id=first.id))


def _damaged(kit: FarmKit) -> None:
    result = kit.attempts()[0].result or {}
    path = kit.farm.blobs.path(result["samples"]["sha256"])
    path.write_bytes(path.read_bytes()[::-1])


def _told_otherwise(kit: FarmKit) -> None:
    answers = kit.farm.settings.home / "answers.json"
    told = json.loads(answers.read_text())
    told[kit.attempts()[0].id] = (409, True)
    answers.write_text(json.dumps(told))


def _orphan(kit: FarmKit) -> None:
    kit.farm.blobs.put(b"nobody's")


def _first(kit: FarmKit, **values: object) -> None:
    with kit.farm.database.transaction() as session:
        mine = Attempt.id == kit.attempts()[0].id
        session.execute(update(Attempt).where(mine).values(**values))


@pytest.mark.parametrize(
    ("harm", "lost", "doubled", "words"),
    [
        (_lost, 1, 0, "0 results count"),
        (_open, 1, 0, "is running (with its device)"),
        (_anothers_samples, 0, 1, "another's samples"),
        (_damaged, 0, 0, "is damaged"),
        (_told_otherwise, 0, 0, "its board was not told so"),
        (_orphan, 0, 0, "used by nothing"),
    ],
)
def test_each_harm_is_found(
    kit: FarmKit, harm: Callable[[FarmKit], None], lost: int, doubled: int, words: str
) -> None:
    harm(kit)
    verdict = judged(kit)
    assert not verdict.good
    assert (verdict.lost, verdict.doubled) == (lost, doubled)
    assert any(words in line for line in verdict.wrong), verdict.wrong


def test_the_logs_are_read(tmp_path: Path) -> None:
    controller, postgres = tmp_path / "up.log", tmp_path / "postgres.log"
    controller.write_text("Traceback (most recent call last):\n")
    postgres.write_text("2026 [1] ERROR:  deadlock detected\n2026 [1] ERROR:  something else\n")
    verdict = Verdict(1)
    assert logged(controller, postgres, verdict)["something else"] == 1
    assert verdict.wrong == [
        "the controller has 1 tracebacks in its log",
        "PostgreSQL broke up 1 deadlocks",
    ]


def test_a_seed_replays_the_schedule() -> None:
    kinds = [*OF_SERVERS, *OF_BOARDS]
    assert plan(7, 100, 5.0) == plan(7, 100, 5.0)
    assert plan(7, 100, 5.0) != plan(8, 100, 5.0)
    assert {fault.kind for fault in plan(9, len(kinds), 5.0)} == set(kinds)
