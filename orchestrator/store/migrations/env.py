"""Alembic's entry: run the revisions over the connection that ``Database.migrate`` hands in."""

from __future__ import annotations

from alembic import context

from orchestrator.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
