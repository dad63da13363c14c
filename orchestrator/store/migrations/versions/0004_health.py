"""health: checks of devices, their readings, and the hidden sweeps that contain the checks"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIMES = ("checked_at", "baseline_at")
VITALS = ("storage_free_mib", "temperature_c", "clock_skew_s")


def upgrade() -> None:
    # added in place: SQLite's batch mode copies and drops tables that others refer to
    op.add_column("sweeps", sa.Column("kind", sa.String(), nullable=False, server_default="sweep"))
    op.add_column(
        "devices", sa.Column("health_reasons", sa.JSON(), nullable=False, server_default="[]")
    )
    op.add_column(
        "devices", sa.Column("checks_failed", sa.Integer(), nullable=False, server_default="0")
    )
    for name in TIMES:
        op.add_column("devices", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    for name in VITALS:
        op.add_column("devices", sa.Column(name, sa.Double(), nullable=True))
    op.create_table(
        "health_checks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=True),
        sa.Column("attempt_id", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("runtime", sa.String(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ok", sa.Boolean(), nullable=True),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=True),
        *(sa.Column(name, sa.Double(), nullable=True) for name in VITALS),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name=op.f("fk_health_checks_device_id")
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"], ["trials.id"], name=op.f("fk_health_checks_trial_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_health_checks")),
    )
    op.create_index("ix_health_checks_device", "health_checks", ["device_id", "ended_at"])


def downgrade() -> None:
    """Deletes the checks with their hidden sweeps; measurements of people's sweeps stay."""
    op.drop_index("ix_health_checks_device", "health_checks")
    op.drop_table("health_checks")
    hidden = "SELECT id FROM sweeps WHERE kind = 'health'"
    trials = f"SELECT id FROM trials WHERE sweep_id IN ({hidden})"
    op.execute(f"DELETE FROM attempts WHERE trial_id IN ({trials})")
    op.execute(f"DELETE FROM trials WHERE sweep_id IN ({hidden})")
    op.execute(f"DELETE FROM cells WHERE sweep_id IN ({hidden})")
    op.execute("DELETE FROM sweeps WHERE kind = 'health'")
    op.execute("UPDATE devices SET health = 'unknown'")
    op.drop_column("sweeps", "kind")
    for name in (*VITALS, *TIMES, "checks_failed", "health_reasons"):
        op.drop_column("devices", name)
