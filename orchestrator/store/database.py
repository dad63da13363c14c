"""Connecting, migrating, and one transaction at a time."""

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
BEGIN = "benchfarm_begin"
"""Execution option: how SQLite begins. IMMEDIATE takes the write lock at once."""
KEPT_OPEN = 20
"""Connections to a server; twice as many at most."""
BUSY_S = 30.0
"""How long SQLite waits for another's lock."""
MIGRATION_LOCK = 0x62656E6368  # "bench": any number that only benchfarm takes


AWAY = (errors.OperationalError, errors.InterfaceError, errors.TimeoutError)
"""Of SQLAlchemy: the database does not answer, or broke a transaction off; trying again helps."""
GONE_AFTER = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
"""libpq's parameters, seconds: a machine that has vanished without a word is given up after a
minute, where the system's own patience is two hours. A URL that names one of them wins."""


def first_line(error: Exception) -> str:
    """What a database's error says, without the statement that it was about."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Database:
    """The controller's database: SQLite (WAL) or PostgreSQL, by URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        make = _sqlite if url.startswith("sqlite") else _server
        self.engine = make(url, flushes=True)
        in_memory = not make_url(url).database and url.startswith("sqlite")
        # another engine would have another memory
        self._lenient = self.engine if in_memory else make(url, flushes=False)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    def migrate(self) -> None:
        """Bring the tables to the newest revision."""
        with self.engine.begin() as connection:
            if connection.dialect.name == "postgresql":  # controllers side by side take turns
                connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            upgrade(connection, "head")

    def revision(self) -> str:
        """The revision that the tables are at; empty where there are none."""
        with self.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision() or ""

    @staticmethod
    def known_revisions() -> list[str]:
        """Those that this benchfarm can read, oldest first."""
        found = ScriptDirectory.from_config(_config()).walk_revisions()
        return [script.revision for script in found][::-1]

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session whose changes are committed together at the end, or not at all.

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
    def change(self) -> Iterator[Connection]:
        """As ``transaction``, for statements that are written once (a session costs more than two
        of them), and that a power cut of the database's machine may undo for as long as it takes to
        flush them, under a second: what follows from them must be right without them, too."""
        with self._lenient.begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """A session that only reads, beside whoever writes; what it changes is never kept."""
        with self._sessions() as session:
            session.connection(execution_options={BEGIN: "DEFERRED"})
            yield session

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """A connection that only reads, each statement by itself: one round trip, and no more."""
        read = {BEGIN: "DEFERRED"}
        if self.engine.dialect.name == "postgresql":
            read["isolation_level"] = "AUTOCOMMIT"
        with self.engine.connect().execution_options(**read) as connection:
            yield connection

    @contextmanager
    def frozen(self) -> Iterator[Session]:
        """A ``snapshot`` in which every query sees the same moment."""
        options = {BEGIN: "DEFERRED"}
        if self.engine.dialect.name == "postgresql":
            options["isolation_level"] = "REPEATABLE READ"
        with self._sessions() as session:
            session.connection(execution_options=options)
            yield session

    def close(self) -> None:
        self.engine.dispose()
        self._lenient.dispose()


def upgrade(connection: Connection, to: str) -> None:
    """Bring the tables up to a revision, within the connection's transaction."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _server(url: str, *, flushes: bool) -> Engine:
    given = make_url(url)
    asks_itself = given.get_driver_name() == "psycopg"
    engine = create_engine(
        url,
        # as many are kept open as threads usually ask at once: opening one starts a process there
        pool_size=KEPT_OPEN,
        max_overflow=KEPT_OPEN,
        # after a restart of the server each pooled connection would fail one request
        pool_pre_ping=not asks_itself,
        connect_args={key: value for key, value in GONE_AFTER.items() if key not in given.query},
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        # the server's side of the same: the locks of a controller whose machine is gone
        with connection.cursor() as cursor:
            for name in ("idle", "interval", "count"):
                cursor.execute(f"SET tcp_keepalives_{name} = {GONE_AFTER[f'keepalives_{name}']}")
            if not flushes:
                cursor.execute("SET synchronous_commit = off")
        connection.commit()

    if asks_itself:
        event.listen(engine, "checkout", lambda dbapi, *_: _require_open(engine, dbapi))
    return engine


def _require_open(engine: Engine, connection: Any) -> None:
    """As ``pool_pre_ping``, at less cost: what a server says though nobody asked it is mostly
    good-bye, and only then it is asked, at a round trip."""
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


def _write_ahead(connection: Any) -> None:
    """Turn the write-ahead log on: kept in the file, so this changes it only once.

    The change itself waits for nobody: of controllers that start together all but one may be told
    that the database is locked, and find it done when they try again.
    """
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _sqlite(url: str, *, flushes: bool) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_S, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        # SQLAlchemy must begin transactions itself: the driver's own begin comes too late to
        # take the write lock, and two readers that both turn writers would deadlock
        connection.isolation_level = None
        _write_ahead(connection)
        # a result is answered for good once it is committed: then it must survive a power cut
        connection.execute(f"PRAGMA synchronous={'FULL' if flushes else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Any) -> None:
        mode = connection.get_execution_options().get(BEGIN, "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine
