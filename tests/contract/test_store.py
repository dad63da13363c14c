"""The store's contract, on every database: migrations, times, transactions."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import BigInteger, Engine, Integer, inspect, select, text
from sqlalchemy.exc import DataError

from orchestrator.domain.errors import Conflict
from orchestrator.store.database import MIGRATIONS, Database
from orchestrator.store.tables import (
    Artifact,
    Attempt,
    Base,
    Cell,
    Device,
    Event,
    HealthCheck,
    Sweep,
    Trial,
    now,
)
from support.need import need
from support.servers import free_port, postgres_programs, postgres_server


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def alembic(engine: Engine, to: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        current = MigrationContext.configure(connection).get_current_revision() or ""
        downwards = to == "base" or to.startswith("-") or to < current
        (command.downgrade if downwards else command.upgrade)(config, to)


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_migrating_nothing_gives_the_tables_of_the_models(database: Database) -> None:
    database.migrate()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    assert tables(database.engine) == set(Base.metadata.tables)


def test_no_column_of_bytes_or_nanoseconds_ends_at_2_to_the_31() -> None:
    for table in Base.metadata.tables.values():
        for column in table.columns:
            if column.name.endswith(("_bytes", "_ns")) and isinstance(column.type, Integer):
                assert isinstance(column.type, BigInteger), f"{table.name}.{column.name}"


def test_migrating_again_changes_nothing(database: Database) -> None:
    database.migrate()
    with database.transaction() as session:
        session.add(Device(name="board", device_class="unknown"))
    database.migrate()
    with database.transaction() as session:
        assert session.scalars(select(Device.name)).all() == ["board"]


def test_down_to_nothing_and_up_again(database: Database) -> None:
    database.migrate()
    alembic(database.engine, "base")
    assert tables(database.engine) == set()
    alembic(database.engine, "head")
    assert tables(database.engine) == set(Base.metadata.tables)


def test_artifacts_of_the_first_revision_say_that_nobody_checked_them(database: Database) -> None:
    alembic(database.engine, "0001")
    with database.engine.begin() as connection:
        empty = {"inputs": "[]", "outputs": "[]", "reference": "{}", "details": "{}"}
        connection.execute(
            text(
                "INSERT INTO models (id, name, inputs, outputs, free_batch, reference, details, "
                "created_at) VALUES (1, 'm', :inputs, :outputs, false, :reference, :details, "
                "'2025-01-01 00:00:00')"
            ),
            empty,
        )
        for form in ("onnx", "tflite"):
            connection.execute(
                text(
                    "INSERT INTO artifacts (model_id, format, sha256, size_bytes) "
                    "VALUES (1, :form, 'ab', 3)"
                ),
                {"form": form},
            )
    database.migrate()
    with database.transaction() as session:
        rows = {a.format: a for a in session.scalars(select(Artifact))}
    assert rows["onnx"].checked == "gave the reference"
    assert rows["tflite"].checked == "not checked: it was added before files were"
    assert [(a.own_inputs, a.own_outputs) for a in rows.values()] == [(None, None)] * 2
    alembic(database.engine, "0001")
    columns = {c["name"] for c in inspect(database.engine).get_columns("artifacts")}
    assert columns == {"id", "model_id", "format", "sha256", "size_bytes"}
    (unique,) = inspect(database.engine).get_unique_constraints("artifacts")
    assert unique["column_names"] == ["model_id", "format"]
    with database.engine.connect() as connection:
        kept = connection.execute(text("SELECT format, size_bytes FROM artifacts ORDER BY id"))
        assert [tuple(row) for row in kept] == [("onnx", 3), ("tflite", 3)]


def test_artifacts_may_be_larger_than_2_gib_and_no_older_schema_cuts_them(
    database: Database,
) -> None:
    large = 5 * 2**30
    alembic(database.engine, "0005")
    with database.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO models (id, name, inputs, outputs, free_batch, reference, details, "
                "created_at) VALUES (1, 'm', '[]', '[]', false, '{}', '{}', '2025-01-01 00:00:00')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO artifacts (model_id, format, sha256, size_bytes) "
                "VALUES (1, 'onnx', 'ab', 3)"
            )
        )
    database.migrate()
    with database.transaction() as session:
        session.add(Artifact(model_id=1, format="tflite", sha256="cd", size_bytes=large))
    if database.engine.dialect.name == "postgresql":
        with pytest.raises(DataError, match="out of range"):
            alembic(database.engine, "0005")
        with database.engine.connect() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
            assert revision == database.known_revisions()[-1], "it goes down as a whole or not"
    else:
        alembic(database.engine, "0005")
        database.migrate()
    with database.transaction() as session:
        sizes = {a.format: a.size_bytes for a in session.scalars(select(Artifact))}
        assert sizes == {"onnx": 3, "tflite": large}
        session.delete(session.scalars(select(Artifact).filter_by(format="tflite")).one())
    alembic(database.engine, "0005")
    with database.engine.connect() as connection:
        kept = connection.execute(text("SELECT format, size_bytes FROM artifacts"))
        assert [tuple(row) for row in kept] == [("onnx", 3)]


def test_controllers_that_start_together_take_turns_at_migrating(database_url: str) -> None:
    program = (
        "import sys; from orchestrator.store.database import Database; "
        "database = Database(sys.argv[1]); print('ready', flush=True); "
        "sys.stdin.readline(); database.migrate()"
    )
    command = [sys.executable, "-c", program, database_url]
    pipe = subprocess.PIPE
    starting = [
        subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe) for _ in range(3)
    ]
    for process in starting:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in starting:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=60)[1] for process in starting]
    assert [p.returncode for p in starting] == [0, 0, 0], errors


@pytest.mark.parametrize(
    "zone", [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=8))]
)
def test_times_come_back_in_utc(database: Database, zone: timezone) -> None:
    at = datetime(2025, 10, 26, 1, 30, 15, 123456, tzinfo=zone)
    database.migrate()
    with database.transaction() as session:
        session.add(Event(at=at, kind="k", subject="s"))
    with database.transaction() as session:
        read = session.scalars(select(Event.at)).one()
        found = session.scalars(select(Event).where(Event.at <= at)).all()
        earlier = session.scalars(select(Event).where(Event.at < at)).all()
    assert read == at
    assert read.utcoffset() == timedelta(0)
    assert (len(found), earlier) == (1, [])


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    database.migrate()

    def fail_half_way() -> None:
        with database.transaction() as session:
            session.add(Device(name="board", device_class="unknown"))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    with database.transaction() as session:
        assert session.scalars(select(Device)).all() == []


def test_a_name_that_is_taken_is_a_conflict(database: Database) -> None:
    database.migrate()
    with database.transaction() as session:
        session.add(Device(name="board", device_class="unknown"))
    with pytest.raises(Conflict, match="taken"), database.transaction() as session:
        session.add(Device(name="board", device_class="unknown"))


def test_a_row_that_refers_to_nothing_is_refused(database: Database) -> None:
    """SQLite checks foreign keys only where it is told to."""
    database.migrate()
    with pytest.raises(Conflict) as caught, database.transaction() as session:
        session.add(Artifact(model_id=77, format="onnx", sha256="", size_bytes=0))
    assert "foreign key" in str(caught.value.__cause__).lower()


def test_writers_at_once_wait_instead_of_failing(database: Database) -> None:
    """Each reads before it writes: in SQLite, the pattern that deadlocks deferred transactions."""
    database.migrate()
    with database.transaction() as session:
        session.add(Device(name="board", device_class="unknown", tags={"n": 0}))
    failures: list[Exception] = []

    def add_one() -> None:
        try:
            for _ in range(10):
                with database.transaction() as session:
                    device = session.get_one(Device, 1, with_for_update=True)
                    device.tags = {"n": device.tags["n"] + 1}
        except Exception as error:  # noqa: BLE001  whatever it is, the test names it
            failures.append(error)

    threads = [threading.Thread(target=add_one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.transaction() as session:
        assert (failures, session.get_one(Device, 1).tags) == ([], {"n": 60})


def test_a_server_that_dropped_its_connections_fails_no_request(postgres_url: str) -> None:
    database = Database(postgres_url)
    try:
        with database.transaction() as session:
            mine = session.scalar(text("SELECT pg_backend_pid()"))
        other = Database(postgres_url)
        with other.transaction() as session:
            session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": mine})
        other.close()
        with database.transaction() as session:
            assert session.scalar(text("SELECT pg_backend_pid()")) != mine
    finally:
        database.close()


def insert(engine: Engine, table: str, **values: object) -> None:
    """A row as an older controller wrote it."""
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), values)


def a_sweep(engine: Engine) -> None:
    at = "2025-01-01 00:00:00+00:00"
    insert(
        engine, "devices", id=1, name="d", device_class="c", tags="{}", enabled=True, health="x",
        agent_version="", created_at=at,
    )  # fmt: skip
    insert(
        engine, "sweeps", id=1, name="s", spec="{}", spec_text="", attempts=1, created_at=at
    )  # fmt: skip
    insert(
        engine, "cells", id=1, sweep_id=1, device_id=1, model="m", configuration="{}", skip=""
    )  # fmt: skip
    insert(
        engine, "trials", id=1, sweep_id=1, cell_id=1, device_id=1, number=0, place=0,
        state="done", attempt=1, spent=1,
    )  # fmt: skip
    insert(
        engine, "attempts", id="a", trial_id=1, device_id=1, number=1, dispatched_at=at,
        lease_until=at, accepted=True, note="",
    )  # fmt: skip


def test_a_controller_and_a_server_whose_machine_is_gone_are_given_up_within_a_minute() -> None:
    programs = postgres_programs()
    need("postgresql", programs is not None, "no initdb on the path or where Debian keeps it")
    assert programs is not None
    with postgres_server(programs, free_port()) as url:
        database = Database(f"{url}?keepalives_count=5")
        with database.engine.connect() as connection:
            names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
            server = [connection.scalar(text(f"SHOW {name}")) for name in names]
            driver = connection.connection.driver_connection
            assert driver is not None
            ours = driver.info.get_parameters()
        database.close()
    assert server == ["30", "10", "3"]
    assert (ours["keepalives_idle"], ours["keepalives_interval"]) == ("30", "10")
    assert ours["keepalives_count"] == "5"  # what a URL says wins


def test_builders_are_added_to_a_farm_that_has_measured(database: Database) -> None:
    alembic(database.engine, "0001")
    a_sweep(database.engine)
    database.migrate()
    with database.transaction() as session:
        cell, trial = session.get_one(Cell, 1), session.get_one(Trial, 1)
        assert (cell.build_key, trial.waits_for) == ("", None)
        assert session.get_one(Attempt, "a").trial_id == 1
    with pytest.raises(Conflict), database.transaction() as session:
        session.get_one(Trial, 1).waits_for = 77


def test_health_is_added_to_a_farm_that_has_measured(database: Database) -> None:
    alembic(database.engine, "0003")
    a_sweep(database.engine)
    database.migrate()
    with database.transaction() as session:
        device, sweep = session.get_one(Device, 1), session.get_one(Sweep, 1)
        assert (device.health_reasons, device.checks_failed, sweep.kind) == ([], 0, "sweep")
        assert (device.checked_at, device.temperature_c) == (None, None)
        assert session.get_one(Attempt, "a").trial_id == 1


def test_going_back_drops_checks_and_nothing_that_was_measured(database: Database) -> None:
    database.migrate()
    a_sweep(database.engine)
    with database.transaction() as session:
        session.get_one(Device, 1).health = "maintenance"
        session.add(Sweep(id=2, name="health/d", spec={}, spec_text="", attempts=2, kind="health"))
        session.flush()
        session.add(Cell(id=2, sweep_id=2, device_id=1, model="m", configuration={}))
        session.flush()
        session.add(Trial(id=2, sweep_id=2, cell_id=2, device_id=1, number=0, place=0))
        session.flush()
        session.add(Attempt(id="b", trial_id=2, device_id=1, number=1, lease_until=now()))
        session.add(HealthCheck(device_id=1, trial_id=2, why="schedule", asked_at=now()))
    alembic(database.engine, "0003")
    with database.engine.connect() as connection:
        left = {
            table: connection.execute(text(f"SELECT id FROM {table}")).scalars().all()
            for table in ("devices", "sweeps", "cells", "trials", "attempts")
        }
        health = connection.execute(text("SELECT health FROM devices")).scalar()
    assert left == {"devices": [1], "sweeps": [1], "cells": [1], "trials": [1], "attempts": ["a"]}
    assert health == "unknown"
    assert "health_checks" not in tables(database.engine)
    database.migrate()
    assert tables(database.engine) == set(Base.metadata.tables)


def test_going_back_drops_builds_and_nothing_that_was_measured(database: Database) -> None:
    database.migrate()
    a_sweep(database.engine)
    with database.transaction() as session:
        session.add(Cell(id=2, sweep_id=1, device_id=1, model="m", configuration={}, build_key="k"))
        session.flush()
        session.add(Trial(id=2, sweep_id=1, cell_id=2, device_id=1, number=0, place=-1))
        session.flush()
        session.add(Attempt(id="b", trial_id=2, device_id=1, number=1, lease_until=now()))
        session.add(Trial(id=3, sweep_id=1, cell_id=1, device_id=1, number=1, place=1, waits_for=2))
    alembic(database.engine, "0001")
    with database.engine.connect() as connection:
        trials = connection.execute(text("SELECT id, state FROM trials ORDER BY id")).all()
        attempts = connection.execute(text("SELECT id FROM attempts")).scalars().all()
        cells = connection.execute(text("SELECT id FROM cells")).scalars().all()
    assert [tuple(row) for row in trials] == [(1, "done"), (3, "cancelled")]
    assert (list(attempts), list(cells)) == (["a"], [1])
    database.migrate()
    assert tables(database.engine) == set(Base.metadata.tables)
