"""Faults that only a whole board can suffer, while a sweep runs."""

from __future__ import annotations

import pytest

from chaos.clocks import COMPILER
from chaos.running import run
from chaos.schedule import HOST_FAULTS, first_seed
from farm import needs
from support.need import need
from support.servers import postgres_programs, redis_program


@pytest.mark.timeout(1200)
def test_no_trial_is_lost_or_doubled_whatever_boards_suffer() -> None:
    why = needs.missing()
    need("nspawn", not why, why)
    need("cc", COMPILER is not None, "no C compiler on the path: no clock can jump")
    need("redis", redis_program() is not None, "no redis-server on the path")
    need("postgresql", postgres_programs() is not None, "no initdb on the path")
    said: list[str] = []
    verdict = run(
        first_seed(), agents=1, real=0, count=len(HOST_FAULTS), trials=10, within_s=300,
        say=said.append, hosts=2, weights=HOST_FAULTS,
    )  # fmt: skip
    assert verdict.good, "\n".join(said)
