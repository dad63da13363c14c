"""a board's life: who submitted a sweep, why a board is drained, connections in the event log"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_devices = sa.table(
    "devices",
    sa.column("id", sa.Integer),
    sa.column("facts", sa.JSON),
    sa.column("agent_version", sa.String),
    sa.column("retired_at", sa.DateTime(timezone=True)),
)
_sweeps = sa.table("sweeps", sa.column("name", sa.String), sa.column("owner", sa.String))
_events = sa.table(
    "events",
    sa.column("id", sa.Integer),
    sa.column("kind", sa.String),
    sa.column("subject", sa.String),
    sa.column("data", sa.JSON),
)


def upgrade() -> None:
    op.add_column("sweeps", _text("owner"))
    op.add_column("devices", _text("drain_note"))
    no = sa.false()
    op.add_column(
        "devices", sa.Column("noted_online", sa.Boolean, nullable=False, server_default=no)
    )
    runtimes = sa.Column("former_runtimes", sa.JSON(), nullable=False, server_default="[]")
    op.add_column("devices", runtimes)
    op.add_column("devices", _text("former_name"))
    op.add_column("devices", sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True))
    _fill_in_owners()
    _fill_in_retired()


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False, server_default="")


def _fill_in_owners() -> None:
    """The event log has said since version 0.1.0 who submitted a sweep."""
    connection = op.get_bind()
    query = sa.select(_events.c.subject, _events.c.data)
    submitted = query.where(_events.c.kind == "sweep_submitted").order_by(_events.c.id)
    owners = {name: str(data.get("by", "")) for name, data in connection.execute(submitted)}
    for name, owner in owners.items():
        connection.execute(sa.update(_sweeps).where(_sweeps.c.name == name).values(owner=owner))


def _fill_in_retired() -> None:
    """Before, a device without facts whose agent had a version was retired."""
    connection = op.get_bind()
    rows = connection.execute(sa.select(_devices.c.id, _devices.c.facts, _devices.c.agent_version))
    gone = [{"which": number} for number, facts, version in rows if facts is None and version]
    if gone:
        retired = sa.update(_devices).where(_devices.c.id == sa.bindparam("which"))
        connection.execute(retired.values(retired_at=datetime.now(UTC)), gone)


def downgrade() -> None:
    op.drop_column("devices", "retired_at")
    op.drop_column("devices", "former_name")
    op.drop_column("devices", "former_runtimes")
    op.drop_column("devices", "noted_online")
    op.drop_column("devices", "drain_note")
    op.drop_column("sweeps", "owner")
