"""Fixtures of every level: real servers and a farm on each database."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from sqlalchemy import create_engine, text

from support.farms import FarmKit, build
from support.need import need
from support.servers import postgres_programs, postgres_server, redis_program, redis_server
from support.together import Together
from support.wheels import onnxruntime_wheels

collect_ignore_glob = ["fixtures/*"]  # an example of a runtime brings a test file of its own
DATABASES = ("sqlite", "postgresql")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # started in the background, as by CI: what the tests start, and interrupt, would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)

# no test asserts on wall-clock speed, and the machine may be busy
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    return Together(config, log)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Redis of this test run's own."""
    program = redis_program()
    need("redis", program is not None, "no redis-server on the path")
    assert program is not None
    with redis_server(program) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL of this test run's own: its maintenance database."""
    programs = postgres_programs()
    need("postgresql", programs is not None, "no initdb on the path or where Debian keeps it")
    assert programs is not None
    with postgres_server(programs) as url:
        yield url


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """onnxruntime in two versions, and what goes beside it, from the configured index."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    why = onnxruntime_wheels(folder)
    need("packages", not why, f"pip downloads nothing: {why}")
    return folder


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database: a new SQLite file, the PostgreSQL server's emptied one."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'farm.sqlite3'}"
    url: str = request.getfixturevalue("postgres_url")
    empty(url)
    return url


def empty(postgres_url: str) -> None:
    """Drop every table: much faster than another database for each test."""
    engine = create_engine(postgres_url)
    try:
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    finally:
        engine.dispose()


@pytest.fixture
def farm(farm_on: Callable[[str], FarmKit], database_url: str) -> FarmKit:
    """A farm on each database in turn, its clock, and its doorbell."""
    return farm_on(database_url)


@pytest.fixture
def sqlite_farm(farm_on: Callable[[str], FarmKit]) -> FarmKit:
    """A farm on SQLite alone, for what does not depend on the database."""
    return farm_on("")


@pytest.fixture
def farm_on(tmp_path: Path) -> Iterator[Callable[..., FarmKit]]:
    """Build farms by database URL (empty: SQLite below the test's folder) and settings; closed at
    the end."""
    has_runtime = importlib.util.find_spec("onnxruntime") is not None
    need("onnxruntime", has_runtime, "it computes the references of this farm's models")
    made: list[FarmKit] = []

    def make(url: str, **more: float) -> FarmKit:
        home = tmp_path / f"home{len(made)}"
        home.mkdir()
        made.append(build(home, url, **more))
        return made[-1]

    yield make
    for kit in made:
        kit.farm.database.close()
