"""What raters gave the written reports of teams, as it was entered."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition.tables import ratings, teams
from cuvee.competition.track_order import Rating


def ratings_of(connection: Connection, track: str) -> list[Rating]:
    """Return all that raters gave the reports of teams that are shown, by team and rater."""
    rows = connection.execute(
        sa.select(ratings, teams.c.name, teams.c.kind)
        .join(teams, teams.c.id == ratings.c.team_id)
        .where(ratings.c.track == track, ~teams.c.hidden)
        .order_by(ratings.c.team_id, ratings.c.rater)
    )
    return [Rating(row.team_id, row.name, row.kind, row.rater, row.value) for row in rows]
