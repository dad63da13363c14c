"""The database: engines for SQLite and PostgreSQL, migrations, and kinds of transactions."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import POLLIN, poll
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy import exc as errors
from sqlalchemy.orm import Session, sessionmaker

from orchestrator.domain.errors import Conflict

MIGRATIONS = Path(__file__).parent / "migrations"
BEGIN_MODE = "benchfarm_begin"
"""Execution option: SQLite's BEGIN mode. IMMEDIATE takes the write lock at once."""
POOL_SIZE = 20
"""Connections kept open to PostgreSQL; at most twice as many are opened."""
BUSY_TIMEOUT_S = 30.0
"""How long SQLite waits for a lock, seconds."""
MIGRATION_LOCK = 0x62656E6368  # "bench": an advisory lock, used by nothing else

DATABASE_UNAVAILABLE = (errors.OperationalError, errors.InterfaceError, errors.TimeoutError)
"""SQLAlchemy's errors for a database that does not answer or aborted a transaction; a later try may
succeed."""
TCP_KEEPALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
"""libpq's connection parameters, seconds: a server whose machine has vanished is noticed after a
minute instead of the kernel's two hours. The URL may override each of them."""


def first_line(error: Exception) -> str:
    """The first line of a database error, without the statement that caused it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Database:
    """The controller's database: SQLite (WAL) or PostgreSQL, by URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        make = _sqlite_engine if url.startswith("sqlite") else _postgresql_engine
        self.engine = make(url, durable=True)
        in_memory = not make_url(url).database and url.startswith("sqlite")
        # a second engine on an in-memory database would have another database
        self._relaxed_engine = self.engine if in_memory else make(url, durable=False)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    def migrate(self) -> None:
        """Bring the tables to the newest revision."""
        with self.engine.begin() as connection:
            if connection.dialect.name == "postgresql":  # one controller at a time
                connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            upgrade(connection, "head")

    def revision(self) -> str:
        """The revision that the tables are at; empty where there are none."""
        with self.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision() or ""

    @staticmethod
    def known_revisions() -> list[str]:
        """The revisions that this version of benchfarm knows, oldest first."""
        found = ScriptDirectory.from_config(_config()).walk_revisions()
        return [script.revision for script in found][::-1]

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A durable transaction: committed at the end of the block, or rolled back.

        Raises:
            Conflict: another transaction took a unique name first.
        """
        try:
            with self._sessions.begin() as session:
                yield session
        except errors.IntegrityError as error:
            raise Conflict(
                "another request has just taken that name; look, and try again"
            ) from error

    @contextmanager
    def relaxed_transaction(self) -> Iterator[Connection]:
        """A transaction without ORM session that does not wait for the disk at its commit.

        A power cut of the database's machine may undo the last second of such transactions; what
        follows from them must stay right without them. A session would cost more than two
        prepared statements.
        """
        with self._relaxed_engine.begin() as connection:
            yield connection

    @contextmanager
    def read_session(self) -> Iterator[Session]:
        """A session that only reads, without waiting for writers; its changes are rolled back."""
        with self._sessions() as session:
            session.connection(execution_options={BEGIN_MODE: "DEFERRED"})
            yield session

    @contextmanager
    def read_connection(self) -> Iterator[Connection]:
        """A connection that only reads, in autocommit mode: one round trip per statement."""
        read = {BEGIN_MODE: "DEFERRED"}
        if self.engine.dialect.name == "postgresql":
            read["isolation_level"] = "AUTOCOMMIT"
        with self.engine.connect().execution_options(**read) as connection:
            yield connection

    @contextmanager
    def repeatable_read(self) -> Iterator[Session]:
        """A ``read_session`` in which every query sees the same snapshot of the database."""
        options = {BEGIN_MODE: "DEFERRED"}
        if self.engine.dialect.name == "postgresql":
            options["isolation_level"] = "REPEATABLE READ"
        with self._sessions() as session:
            session.connection(execution_options=options)
            yield session

    def close(self) -> None:
        self.engine.dispose()
        self._relaxed_engine.dispose()


def upgrade(connection: Connection, to: str) -> None:
    """Bring the tables up to a revision, within the connection's transaction."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _postgresql_engine(url: str, *, durable: bool) -> Engine:
    given = make_url(url)
    is_psycopg = given.get_driver_name() == "psycopg"
    engine = create_engine(
        url,
        # as many as threads usually need at once: PostgreSQL starts a process for each connection
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        # without it, each pooled connection fails one request after a restart of the server
        pool_pre_ping=not is_psycopg,
        connect_args={key: value for key, value in TCP_KEEPALIVE.items() if key not in given.query},
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        # the server's keepalive: it releases the locks of a controller whose machine has vanished
        with connection.cursor() as cursor:
            for name in ("idle", "interval", "count"):
                cursor.execute(f"SET tcp_keepalives_{name} = {TCP_KEEPALIVE[f'keepalives_{name}']}")
            if not durable:
                cursor.execute("SET synchronous_commit = off")
        connection.commit()

    if is_psycopg:
        event.listen(engine, "checkout", lambda dbapi, *_: _ping_if_readable(engine, dbapi))
    return engine


def _ping_if_readable(engine: Engine, connection: Any) -> None:
    """Replaces ``pool_pre_ping`` at less cost: pings only where the socket has unread data.

    Data that nobody asked for mostly means that the server has closed the connection.
    """
    poller = poll()
    poller.register(connection.pgconn.socket, POLLIN)
    if not poller.poll(0):
        return
    try:
        engine.dialect.do_ping(connection)
    except Exception as error:
        raise errors.DisconnectionError(
            f"the server has closed this connection: {error}"
        ) from error


def _enable_wal(connection: Any) -> None:
    """Turn on SQLite's write-ahead log; the setting is kept in the database file.

    This statement ignores the busy timeout: where controllers start together, all but one may fail
    because the database is locked, and succeed when they try again.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _sqlite_engine(url: str, *, durable: bool) -> Engine:
    engine = create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        # SQLAlchemy begins transactions itself: the driver begins too late to take the write lock,
        # and two readers that both become writers would deadlock
        connection.isolation_level = None
        _enable_wal(connection)
        # FULL: an accepted result is acknowledged, so it must survive a power cut
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Any) -> None:
        mode = connection.get_execution_options().get(BEGIN_MODE, "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine
