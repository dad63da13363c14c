"""A short run of the farm under faults; ``make chaos`` is the long one."""

from __future__ import annotations

import os
import random

import pytest

from chaos.running import run
from chaos.schedule import FAULTS, plan
from support.need import need
from support.servers import postgres_programs, redis_program

SEED = "BENCHFARM_CHAOS_SEED"
"""Environment variable: the seed that a failed run printed."""


def test_a_seed_replays_the_schedule() -> None:
    assert plan(7, 50) == plan(7, 50)
    assert plan(7, 50) != plan(8, 50)
    assert {fault.kind for fault in plan(9, len(FAULTS))} == set(FAULTS)


@pytest.mark.timeout(1200)
def test_no_trial_is_lost_or_doubled_whatever_fails() -> None:
    need("redis", redis_program() is not None, "no redis-server on the path")
    need("postgresql", postgres_programs() is not None, "no initdb on the path")
    seed = int(os.environ.get(SEED, "") or random.SystemRandom().randrange(1 << 31))
    said: list[str] = []
    verdict = run(
        seed, agents=6, real=1, count=len(FAULTS), trials=12, within_s=300, say=said.append
    )
    assert verdict.good, "\n".join(said)
