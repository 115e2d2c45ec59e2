"""Tracks have finals of their own, and raters' scores of reports."""

import sqlalchemy as sa
from alembic import op

from cuvee.competition.tables import Moment

revision = "0007_tracks"
down_revision = "0006_judging_that_holds"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both tables, which are empty."""
    op.create_table(
        "ratings",
        sa.Column("track", sa.String(length=100), nullable=False),
        sa.Column("team_id", sa.Integer(), nullable=False),
        sa.Column("rater", sa.String(length=80), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_ratings_team_id_teams")),
        sa.PrimaryKeyConstraint("track", "team_id", "rater", name=op.f("pk_ratings")),
    )
    op.create_table(
        "track_places",
        sa.Column("track", sa.String(length=100), nullable=False),
        sa.Column("team_id", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("rank_low", sa.Integer(), nullable=False),
        sa.Column("rank_high", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("low", sa.Float(), nullable=True),
        sa.Column("high", sa.Float(), nullable=True),
        sa.Column("submission_id", sa.Integer(), nullable=True),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("tokens", sa.BigInteger(), nullable=True),
        sa.Column("cpu_seconds", sa.Float(), nullable=True),
        sa.Column("raters", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name=op.f("fk_track_places_submission_id_submissions")
        ),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_track_places_team_id_teams")),
        sa.PrimaryKeyConstraint("track", "team_id", name=op.f("pk_track_places")),
    )
