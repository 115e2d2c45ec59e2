"""A run remembers that its lease has looked over once. Verdicts get the signature of the worker that
brought them, and what near copies are found by has a table.
"""

import sqlalchemy as sa
from alembic import op

from cuvee.competition.tables import Moment

revision = "0006_judging_that_holds"
down_revision = "0005_suspects"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is new. No run is overdue at first, and verdicts that are there stay unsigned."""
    op.add_column("runs", sa.Column("overdue", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("verdicts", sa.Column("signed", sa.JSON(), nullable=True))
    op.add_column("verdicts", sa.Column("salt", sa.String(length=32), server_default="", nullable=False))
    op.create_table(
        "worker_keys",
        sa.Column("public_key", sa.String(length=60), nullable=False),
        sa.Column("worker", sa.String(length=80), nullable=False),
        sa.Column("registered_at", Moment(), nullable=False),
        sa.Column("ended_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("public_key", name=op.f("pk_worker_keys")),
    )
    op.create_index(op.f("ix_worker_keys_worker"), "worker_keys", ["worker"], unique=False)
    op.create_table(
        "likenesses",
        sa.Column("submission_id", sa.Integer(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name=op.f("fk_likenesses_submission_id_submissions")
        ),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_likenesses")),
    )
