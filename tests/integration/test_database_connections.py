"""A pool of connections to PostgreSQL, some of which the server has closed meanwhile."""

from __future__ import annotations

import contextlib
import time

from sqlalchemy import text

from orchestrator.store.database import Database

KEPT = 3


def test_connections_that_the_server_closed_fail_no_request(postgres_url: str) -> None:
    database, other = Database(postgres_url), Database(postgres_url)
    with contextlib.closing(database), contextlib.closing(other):
        with contextlib.ExitStack() as stack:
            used = [stack.enter_context(database.engine.connect()) for _ in range(KEPT)]
            before = {c.scalar(text("SELECT pg_backend_pid()")) for c in used}
        with other.engine.begin() as connection:
            for pid in before:
                assert connection.scalar(text("SELECT pg_terminate_backend(:p, 5000)"), {"p": pid})
        time.sleep(0.2)  # for the server's good-bye to arrive
        after = set()
        for _ in range(KEPT):
            with database.transaction() as session:
                after.add(session.scalar(text("SELECT pg_backend_pid()")))
        assert not before & after
