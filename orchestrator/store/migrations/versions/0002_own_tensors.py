"""artifacts: their own tensors, and whether they were checked"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("artifacts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("precision", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("own_inputs", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("own_outputs", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("checked", sa.String(), nullable=False, server_default=""))
    # Before this revision every model came from its ONNX file, and further files were not checked.
    artifacts = sa.table("artifacts", sa.column("format"), sa.column("checked"))
    op.execute(
        artifacts.update().values(
            checked=sa.case(
                (artifacts.c.format == "onnx", "gave the reference"),
                else_="not checked: it was added before files were",
            )
        )
    )


def downgrade() -> None:
    with op.batch_alter_table("artifacts", schema=None) as batch_op:
        batch_op.drop_column("checked")
        batch_op.drop_column("own_outputs")
        batch_op.drop_column("own_inputs")
        batch_op.drop_column("precision")
