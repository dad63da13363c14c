"""access: a broker password for each device, and when a token was last used"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Devices that joined before have no broker password: where the broker's default user is closed
    they have to join again."""
    digest = sa.Column("broker_digest", sa.String(), nullable=False, server_default="")
    op.add_column("devices", digest)
    op.add_column("tokens", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("tokens", "last_used_at")
    op.drop_column("devices", "broker_digest")
