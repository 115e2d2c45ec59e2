"""Final scores have what controls and second answers say beside them. Of earlier ones nobody has asked any."""

import sqlalchemy as sa
from alembic import op

revision = "0008_controls"
down_revision = "0007_tracks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column to both tables."""
    for table in ("private_results", "final_scores"):
        op.add_column(table, sa.Column("controls", sa.JSON(), nullable=True))
