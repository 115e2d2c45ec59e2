"""Results have the processors' seconds beside the clock's. Of earlier ones nobody has measured any."""

import sqlalchemy as sa
from alembic import op

revision = "0004_cpu_seconds"
down_revision = "0003_sessions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("public_results", sa.Column("cpu_seconds", sa.Float(), nullable=True))
