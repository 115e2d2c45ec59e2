"""Results have the processors' seconds beside the clock's. Of earlier ones nobody has measured any.

The memory of a job may be unknown, too: a container engine does not tell it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004_cpu_seconds"
down_revision = "0003_sessions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and let the other be empty."""
    with op.batch_alter_table("public_results") as table:
        table.add_column(sa.Column("cpu_seconds", sa.Float(), nullable=True))
        table.alter_column("memory_bytes", existing_type=sa.BigInteger(), nullable=True)
