"""A run remembers that its lease has looked over once."""

import sqlalchemy as sa
from alembic import op

revision = "0004_judging_that_holds"
down_revision = "0003_sessions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. No run is overdue at first."""
    op.add_column("runs", sa.Column("overdue", sa.Boolean(), server_default=sa.false(), nullable=False))
