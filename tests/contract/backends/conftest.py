"""Each backend in turn, the small model in its format, and what runs its child."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.runner_child import Bench, require
from support.runtime_cases import BACKENDS
from support.runtime_contract import BackendCase


@pytest.fixture(scope="session", params=BACKENDS)
def case(request: pytest.FixtureRequest) -> BackendCase:
    require(request.param)
    return BACKENDS[request.param]


@pytest.fixture(scope="session")
def models(case: BackendCase, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small model: ``free`` batch and ``fixed`` at 1, in the backend's format."""
    free, fixed = case.write(tmp_path_factory.mktemp(f"models-{case.backend}"))
    return {"free": free, "fixed": fixed}


@pytest.fixture
def bench(case: BackendCase, tmp_path: Path) -> Bench:
    return Bench(case.backend, tmp_path, case.environment)
