"""Results have the tokens that tuning and searching took. Of earlier ones the verdicts know them."""

import sqlalchemy as sa
from alembic import op

revision = "0009_tuning_tokens"
down_revision = "0008_controls"
branch_labels = None
depends_on = None

RESULTS = sa.table("public_results", sa.column("submission_id", sa.Integer), sa.column("tuning_tokens", sa.BigInteger))
VERDICTS = sa.table(
    "verdicts", sa.column("submission_id", sa.Integer), sa.column("purpose", sa.String), sa.column("content", sa.JSON)
)


def upgrade() -> None:
    """Add the columns, and read what verdicts of public runs say. Finals that are out keep what they show."""
    op.add_column("public_results", sa.Column("tuning_tokens", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("track_places", sa.Column("tuning_tokens", sa.BigInteger(), nullable=True))
    tokens = VERDICTS.c.content["figures"]["tuning"]["tokens"].as_integer().label("tokens")
    query = sa.select(VERDICTS.c.submission_id, tokens).where(VERDICTS.c.purpose == "public")
    connection = op.get_bind()
    for row in connection.execute(query).all():
        if row.tokens:
            result = RESULTS.update().where(RESULTS.c.submission_id == row.submission_id)
            connection.execute(result.values(tuning_tokens=row.tokens))
