"""builders: cells that build artifacts for others, and trials that wait for them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cells", sa.Column("build_key", sa.String(), nullable=False, server_default=""))
    op.create_index(op.f("ix_cells_build_key"), "cells", ["build_key"])
    # added in place: SQLite's batch mode copies and drops the table that attempts refer to
    op.add_column(
        "trials",
        sa.Column(
            "waits_for",
            sa.Integer(),
            sa.ForeignKey("trials.id", name=op.f("fk_trials_waits_for")),
            nullable=True,
        ),
        inline_references=True,
    )
    op.create_index(op.f("ix_trials_waits_for"), "trials", ["waits_for"])


def downgrade() -> None:
    """Artifacts that were built stay with the cells that run them; waiting trials are cancelled."""
    op.execute("UPDATE trials SET state = 'cancelled' WHERE waits_for IS NOT NULL")
    op.drop_index(op.f("ix_trials_waits_for"), "trials")
    op.drop_column("trials", "waits_for")
    built = "SELECT id FROM cells WHERE build_key <> ''"
    trials = f"SELECT id FROM trials WHERE cell_id IN ({built})"
    op.execute(f"DELETE FROM attempts WHERE trial_id IN ({trials})")
    op.execute(f"DELETE FROM trials WHERE cell_id IN ({built})")
    op.execute("DELETE FROM cells WHERE build_key <> ''")
    op.drop_index(op.f("ix_cells_build_key"), "cells")
    op.drop_column("cells", "build_key")
