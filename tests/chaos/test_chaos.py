"""A short run of the farm under faults; ``make chaos`` is the long one."""

from __future__ import annotations

import pytest

from chaos.clocks import COMPILER
from chaos.running import kinds, run
from chaos.schedule import FAULTS, first_seed, plan
from support.need import need
from support.servers import postgres_programs, redis_program


def test_a_seed_replays_the_schedule() -> None:
    assert plan(7, 50) == plan(7, 50)
    assert plan(7, 50) != plan(8, 50)
    assert {fault.kind for fault in plan(9, len(FAULTS))} == set(FAULTS)


def test_a_farm_meets_the_faults_that_it_can() -> None:
    assert not {k for k in kinds(embedded=True) if k.startswith(("broker", "host"))}
    assert {k for k in kinds(hosts=2) if k.startswith("host")}
    assert set(kinds(embedded=True)) < set(kinds()) == set(FAULTS)


@pytest.fixture
def seed() -> int:
    need("cc", COMPILER is not None, "no C compiler on the path: no clock can jump")
    need("redis", redis_program() is not None, "no redis-server on the path")
    return first_seed()


@pytest.mark.timeout(1200)
def test_no_trial_is_lost_or_doubled_whatever_fails(seed: int) -> None:
    need("postgresql", postgres_programs() is not None, "no initdb on the path")
    said: list[str] = []
    verdict = run(
        seed, agents=6, real=1, count=len(FAULTS), trials=12, within_s=300, say=said.append
    )
    assert verdict.good, "\n".join(said)


@pytest.mark.timeout(1200)
def test_nor_on_sqlite_with_the_embedded_broker(seed: int) -> None:
    said: list[str] = []
    verdict = run(
        seed, agents=3, real=0, count=12, trials=8, within_s=300, say=said.append, embedded=True
    )
    assert verdict.good, "\n".join(said)


@pytest.mark.timeout(1200)
def test_a_controllers_clock_that_jumps_costs_no_attempt(seed: int) -> None:
    said: list[str] = []
    verdict = run(
        seed, agents=3, real=3, count=6, trials=12, lanes=1, within_s=300, say=said.append,
        embedded=True, weights={"controller_clock_jump": 1}, lease_s=15,
    )  # fmt: skip
    assert verdict.good, "\n".join(said)
    assert verdict.ran_out == 0, "\n".join(said)
