"""Tables as JSON lines, the same for every database, and back.

A line is one row: column → value, without the columns that are NULL (a JSON column's ``null`` is a
value). Times are ISO 8601 in UTC. The schema is reflected, so that an older revision can be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import IO, Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    DateTime,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    cast,
    func,
    insert,
    select,
    type_coerce,
    update,
)

VERSION_TABLE = "alembic_version"
MAX_ROW_BYTES = 256 << 20
"""A result is at most 4 MiB, a sweep's text 1 MiB."""
BATCH_ROWS = 500


class BadRows(ValueError):
    """A line is not a row of its table."""


def reflected_tables(connection: Connection) -> list[Table]:
    """The existing tables, each after those that it refers to."""
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != VERSION_TABLE]


def dump_table(connection: Connection, table: Table, file: IO[bytes]) -> int:
    """Write every row of a table in the order of its primary key; returns how many."""
    columns = [_column_to_read(connection, column) for column in table.columns]
    count = 0
    query = select(*columns).order_by(*table.primary_key.columns)
    for row in connection.execute(query, execution_options={"yield_per": BATCH_ROWS}):
        plain = {
            column.name: _to_json(column, value)
            for column, value in zip(table.columns, row, strict=True)
            if value is not None
        }
        file.write(json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        count += 1
    return count


def load_table(connection: Connection, table: Table, file: IO[bytes]) -> int:
    """Insert every row; returns how many.

    Raises:
        BadRows: a line is not a row of this table.
    """
    self_references = _self_references(table)
    later: list[dict[str, Any]] = []
    values = {c.name: _value_to_write(connection, c) for c in table.columns}
    count = 0
    for batch in _batches(_rows(table, file)):
        for row in batch:
            if any(row[name] is not None for name in self_references):
                keys = {f"key_{c.name}": row[c.name] for c in table.primary_key.columns}
                later.append({**keys, **{f"to_{name}": row[name] for name in self_references}})
                row.update(dict.fromkeys(self_references))
        connection.execute(insert(table).values(values), batch)
        count += len(batch)
    if later:  # a row may refer to a later one of its own table
        by_key = [c == bindparam(f"key_{c.name}") for c in table.primary_key.columns]
        targets: dict[str, Any] = {name: bindparam(f"to_{name}") for name in self_references}
        connection.execute(update(table).where(*by_key).values(targets), later)
    _advance_sequences(connection, table)
    return count


def _rows(table: Table, file: IO[bytes]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(iter(lambda: file.readline(MAX_ROW_BYTES), b""), start=1):
        try:
            given = json.loads(line)
            if not isinstance(given, dict) or not set(given) <= set(table.columns.keys()):
                raise BadRows("unknown columns")
            yield {c.name: _from_json(c, given) for c in table.columns}
        except (ValueError, RecursionError) as error:
            raise BadRows(f"{table.name}, line {number}: no row of this table: {error}") from None


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _self_references(table: Table) -> list[str]:
    return [c.name for c in table.columns if any(k.column.table is table for k in c.foreign_keys)]


def _column_to_read(connection: Connection, column: Column[Any]) -> Any:
    """A JSON column is read as text, which tells NULL from ``null``."""
    if not isinstance(column.type, JSON):
        return column
    on_server = connection.dialect.name == "postgresql"
    text = cast(column, Text) if on_server else type_coerce(column, Text)
    return text.label(column.name)


def _value_to_write(connection: Connection, column: Column[Any]) -> Any:
    if not isinstance(column.type, JSON):
        return bindparam(column.name)
    text = bindparam(column.name, type_=Text())
    return cast(text, column.type) if connection.dialect.name == "postgresql" else text


def _to_json(column: Column[Any], value: Any) -> Any:
    if isinstance(column.type, JSON):
        return json.loads(value)
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return aware.isoformat()
    return value


def _from_json(column: Column[Any], given: dict[str, Any]) -> Any:
    if column.name not in given:
        return None
    value = given[column.name]
    if isinstance(column.type, JSON):
        return json.dumps(value, allow_nan=False)
    for kind, wanted in _READERS:
        if isinstance(column.type, kind):
            return wanted(value, column)
    raise BadRows(f"{column.name}: a column of type {column.type}")


def _require_type(kind: type) -> Callable[[Any, Column[Any]], Any]:
    def check(value: Any, column: Column[Any]) -> Any:
        if type(value) is not kind:
            raise BadRows(f"{column.name}: expected {kind.__name__}")
        return value

    return check


def _time(value: Any, column: Column[Any]) -> datetime:
    given = datetime.fromisoformat(_require_type(str)(value, column))
    if given.tzinfo is None:
        raise BadRows(f"{column.name}: a time without its zone")
    return given.astimezone(UTC)


_READERS: tuple[tuple[type, Callable[[Any, Column[Any]], Any]], ...] = (
    (DateTime, _time),
    (Boolean, _require_type(bool)),
    (Integer, _require_type(int)),
    (Float, lambda value, _: float(value)),
    (String, _require_type(str)),
)


def _advance_sequences(connection: Connection, table: Table) -> None:
    """Set PostgreSQL's sequences to the highest key: inserting rows with keys does not."""
    if connection.dialect.name != "postgresql":
        return
    for column in table.primary_key.columns:
        name = func.pg_get_serial_sequence(table.name, column.name)
        if isinstance(column.type, Integer) and connection.scalar(select(name)):
            highest = connection.scalar(select(func.max(column)))
            if highest is not None:
                connection.execute(select(func.setval(name, highest)))
