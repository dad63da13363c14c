"""A board that has joined, on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from support.running_agent import Board, joined


@pytest.fixture
def board(tmp_path: Path, redis_url: str) -> Iterator[Board]:
    redis.Redis.from_url(redis_url).flushall()
    with joined(tmp_path, redis_url) as made:
        yield made
