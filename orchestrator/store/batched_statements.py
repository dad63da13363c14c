"""Several changes in one round trip, where the database has a way to say that.

A change of one row costs less than the way to the server and back, so what is always changed
together is written as one statement: on PostgreSQL all but the last are its CTEs, and none of them
sees what another changes. SQLite, which is not a way off, gets them one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Update

Change = Insert | Update | Delete


class BatchedStatements:
    """Changes of different tables, each with its values bound by name: no two by the same."""

    def __init__(self, *changes: Change) -> None:
        *others, last = changes
        ctes = [change.cte(f"change_{turn}") for turn, change in enumerate(others)]
        self._at_once = last.add_cte(*ctes)
        self._each = [(change, set(change.compile().params)) for change in changes]

    def execute(self, connection: Connection, given: Mapping[str, Any]) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(self._at_once, given)
            return
        for change, names in self._each:
            connection.execute(change, {name: given[name] for name in names & given.keys()})
