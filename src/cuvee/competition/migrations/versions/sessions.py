"""Sessions hang on the token that they were made from. Earlier ones hang on nothing: people sign in once more.

Names are compared by what they look like with Unicode's table.
"""

import sqlalchemy as sa
from alembic import op

from cuvee.competition.names import name_key

revision = "0003_sessions"
down_revision = "0002_audit_chain"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forget all sessions, give tokens a parent, and find out anew what the names of teams look like."""
    op.execute("DELETE FROM tokens WHERE expires_at IS NOT NULL")
    with op.batch_alter_table("tokens") as table:
        table.add_column(sa.Column("parent_id", sa.Integer(), nullable=True))
        table.create_foreign_key(op.f("fk_tokens_parent_id_tokens"), "tokens", ["parent_id"], ["id"])
        table.create_index(op.f("ix_tokens_parent_id"), ["parent_id"], unique=False)
    _renew_keys()


def _renew_keys() -> None:
    """Give each team the key of today. Teams that look alike now stay two, as they were, and nobody gets in between."""
    connection = op.get_bind()
    teams = sa.table("teams", sa.column("id"), sa.column("name"), sa.column("key"))
    rows = connection.execute(sa.select(teams.c.id, teams.c.name).order_by(teams.c.id)).all()
    connection.execute(teams.update().values(key=sa.literal("#") + sa.cast(teams.c.id, sa.String)))
    used = set()
    for row in rows:
        key = name_key(row.name)
        if key in used:
            key = f"{key}#{row.id}"
        used.add(key)
        connection.execute(teams.update().where(teams.c.id == row.id).values(key=key))
