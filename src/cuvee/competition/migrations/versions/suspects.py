"""Runs say after which passed test of their worker they were claimed, and failed tests raise alarms.

Runs of before say nothing of it, so no failed test takes them back.
"""

import sqlalchemy as sa
from alembic import op

from cuvee.competition.tables import Moment

revision = "0005_suspects"
down_revision = "0004_cpu_seconds"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the two counts and the alarms."""
    op.add_column("runs", sa.Column("after_test", sa.Integer(), nullable=True))
    op.add_column("workers", sa.Column("tests_passed", sa.Integer(), server_default="0", nullable=False))
    op.create_table(
        "alarms",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("worker", sa.String(length=80), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("queued", sa.Integer(), nullable=False),
        sa.Column("suspect", sa.Integer(), nullable=False),
        sa.Column("standing", sa.Integer(), nullable=False),
        sa.Column("closed_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarms")),
    )
