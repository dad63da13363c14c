"""Several changes of one row each in one round trip to the server.

The round trip costs more than the change. On PostgreSQL the changes are one statement: all but the
last are its CTEs, and none of them sees what another changes. SQLite has no round trip and
executes them one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Update

Change = Insert | Update | Delete


class BatchedStatements:
    """Changes of different tables, whose bound parameters all have different names."""

    def __init__(self, *changes: Change) -> None:
        *others, last = changes
        ctes = [change.cte(f"change_{number}") for number, change in enumerate(others)]
        self._combined = last.add_cte(*ctes)
        self._separate = [(change, set(change.compile().params)) for change in changes]

    def execute(self, connection: Connection, parameters: Mapping[str, Any]) -> None:
        """Execute all of them, with the parameters of all."""
        if connection.dialect.name == "postgresql":
            connection.execute(self._combined, parameters)
            return
        for change, names in self._separate:
            connection.execute(
                change, {name: parameters[name] for name in names & parameters.keys()}
            )
