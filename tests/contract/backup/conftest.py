"""A farm that has measured, and one elsewhere that is empty yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.database import Database
from support.backups import Elsewhere, measured
from support.farms import FarmKit


@pytest.fixture
def full(farm: FarmKit) -> FarmKit:
    farm.device("board")
    farm.add_model()
    measured(farm)
    return farm


@pytest.fixture(params=["sqlite", "postgresql"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Elsewhere]:
    """Another database of the PostgreSQL server than the one that the farm is on."""
    home = tmp_path / "elsewhere"
    home.mkdir()
    if request.param == "sqlite":
        url = f"sqlite:///{home / 'farm.sqlite3'}"
    else:
        server: str = request.getfixturevalue("postgres_url")
        url = server.replace("/postgres?", "/elsewhere?")
        other = Database(server)
        with other.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("DROP DATABASE IF EXISTS elsewhere"))
            connection.execute(text("CREATE DATABASE elsewhere"))
        other.close()
    database = Database(url)
    yield Elsewhere(home, database, FolderBlobs(home / "blobs"))
    database.close()
