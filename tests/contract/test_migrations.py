"""Every revision down and up again, with a row in every table, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    DateTime,
    Float,
    Integer,
    String,
    Table,
    UniqueConstraint,
    insert,
    inspect,
)

from orchestrator.store.backup import table_dump
from orchestrator.store.database import MIGRATIONS, Database, upgrade
from orchestrator.store.tables import Base

AT = datetime(2025, 3, 30, 1, 30, tzinfo=UTC)

Rows = dict[str, list[dict[str, Any]]]

AS_MEASURED = {("cells", "build_key"): "", ("devices", "health"): "unknown"}
"""Going back below 0003 drops what was built, which ``test_store`` has a test of; below 0004 no
health was known."""


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def test_a_row_of_every_table_keeps_what_each_older_schema_can_hold(database: Database) -> None:
    database.migrate()
    with database.engine.begin() as connection:
        fill(connection)
        at_head = rows(connection)
    assert set(at_head) == set(Base.metadata.tables)
    assert all(len(found) == 2 for found in at_head.values())
    revisions = database.known_revisions()
    for revision in revisions[-2::-1]:
        go_down(database, revision)
        with database.engine.connect() as connection:
            assert kept(connection, at_head) == lost_nothing(connection, at_head), revision
    with database.engine.connect() as connection:
        at_first = rows(connection)
    for revision in revisions[1:]:
        with database.engine.begin() as connection:
            upgrade(connection, revision)
        with database.engine.connect() as connection:
            assert kept(connection, at_first) == at_first, revision
    with database.engine.begin() as connection:
        assert set(rows(connection)) == set(at_head)
        check_relations(connection)
    go_down(database, "base")
    assert set(inspect(database.engine).get_table_names()) <= {table_dump.VERSION_TABLE}


def fill(connection: Connection) -> None:
    """Two rows a table, made from its columns, so that one that is added is filled as well."""
    for table in table_dump.reflected_tables(connection):
        for number in (1, 2):
            connection.execute(
                insert(table).values({c.name: value(table, c, number) for c in table.columns})
            )


def value(table: Table, column: Any, number: int) -> Any:
    special = AS_MEASURED.get((table.name, column.name))
    if special is not None:
        return special
    for key in column.foreign_keys:
        if key.column.table is table:
            return None
        return value(key.column.table, key.column, number)
    if isinstance(column.type, JSON):
        return {"number": number, "text": "µ", "list": [1.5, None]}
    if isinstance(column.type, DateTime):
        return AT
    if isinstance(column.type, Boolean):
        return True
    if isinstance(column.type, Integer):
        return number
    if isinstance(column.type, Float):  # Double is one
        return number + 0.5
    assert isinstance(column.type, String), column.type
    return f"{column.name}-{number}"


def rows(connection: Connection) -> Rows:
    import json

    found = {}
    for table in table_dump.reflected_tables(connection):
        lines = BytesIO()
        table_dump.dump_table(connection, table, lines)
        found[table.name] = [json.loads(line) for line in lines.getvalue().splitlines()]
    return found


def kept(connection: Connection, before: Rows) -> Rows:
    """What is now in the tables and columns that were there before."""
    now = rows(connection)
    return {
        table: [
            {key: new[key] for key in old if key in new}
            for old, new in zip(before[table], now[table], strict=True)
        ]
        for table in before
        if table in now
    }


def lost_nothing(connection: Connection, before: Rows) -> Rows:
    """What ``before`` would be with the columns that there are now."""
    columns = {t.name: set(t.columns.keys()) for t in table_dump.reflected_tables(connection)}
    return {
        table: [{k: v for k, v in row.items() if k in columns[table]} for row in found]
        for table, found in before.items()
        if table in columns
    }


def go_down(database: Database, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def check_relations(connection: Connection) -> None:
    """Constraints survive SQLite's way of changing a table, which is to copy it."""
    for table in table_dump.reflected_tables(connection):
        model = Base.metadata.tables[table.name]
        assert _targets(table) == _targets(model), table.name
        assert _unique(table) == _unique(model), table.name
        assert {i.name for i in table.indexes} >= {i.name for i in model.indexes}, table.name


def _targets(table: Table) -> set[tuple[str, str]]:
    return {(key.parent.name, key.target_fullname) for key in table.foreign_keys}


def _unique(table: Table) -> set[tuple[str, ...]]:
    return {
        tuple(column.name for column in constraint.columns)
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    }
