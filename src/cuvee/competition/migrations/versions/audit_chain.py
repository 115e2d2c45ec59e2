"""The audit log becomes a chain: each line gets a digest of itself and of the line before."""

import sqlalchemy as sa
from alembic import op

from cuvee.competition.audit import START, line_digest
from cuvee.competition.migrations.versions.first_shape import AUDIT_IS_APPEND_ONLY
from cuvee.competition.tables import Moment

revision = "0002_audit_chain"
down_revision = "0001"
branch_labels = None
depends_on = None

AUDIT = sa.table(
    "audit",
    sa.column("id", sa.Integer()),
    sa.column("at", Moment()),
    sa.column("role", sa.String()),
    sa.column("actor", sa.String()),
    sa.column("action", sa.String()),
    sa.column("subject", sa.String()),
    sa.column("details", sa.JSON()),
    sa.column("digest", sa.String()),
)


def upgrade() -> None:
    """Add the column, and chain the lines that are there. The triggers step aside for that alone."""
    op.add_column("audit", sa.Column("digest", sa.String(length=64), server_default="", nullable=False))
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE audit DISABLE TRIGGER USER")
        _chain_lines()
        op.execute("ALTER TABLE audit ENABLE TRIGGER USER")
        return
    op.execute("DROP TRIGGER IF EXISTS audit_no_update")
    _chain_lines()
    op.execute(
        "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit "
        f"BEGIN SELECT RAISE(ABORT, '{AUDIT_IS_APPEND_ONLY}'); END"
    )


def _chain_lines() -> None:
    connection, before = op.get_bind(), START
    for row in connection.execute(sa.select(AUDIT).order_by(AUDIT.c.id)).all():
        before = line_digest(before, row._asdict())
        connection.execute(AUDIT.update().where(AUDIT.c.id == row.id).values(digest=before))
