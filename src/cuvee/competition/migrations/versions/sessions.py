"""Sessions hang on the token that they were made from. Earlier ones hang on nothing: people sign in once more."""

import sqlalchemy as sa
from alembic import op

revision = "0002_sessions"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forget all sessions, and give tokens a parent."""
    op.execute("DELETE FROM tokens WHERE expires_at IS NOT NULL")
    with op.batch_alter_table("tokens") as table:
        table.add_column(sa.Column("parent_id", sa.Integer(), nullable=True))
        table.create_foreign_key(op.f("fk_tokens_parent_id_tokens"), "tokens", ["parent_id"], ["id"])
        table.create_index(op.f("ix_tokens_parent_id"), ["parent_id"], unique=False)
