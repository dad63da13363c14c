"""A farm with health checks, and one board whose check is due."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.checked import EVERY_S
from support.farms import FarmKit


@pytest.fixture
def farm(farm_on: Callable[..., FarmKit], database_url: str) -> FarmKit:
    """A farm with health checks, on each database in turn."""
    kit = farm_on(database_url, health_every_s=EVERY_S)
    kit.add_model()
    return kit


@pytest.fixture
def board(farm: FarmKit) -> int:
    """An online device whose first check is due."""
    return farm.device()
