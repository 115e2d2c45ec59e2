"""What raters gave the written reports of teams, as it was entered."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition.tables import ratings, teams
from cuvee.competition.track_order import Rating


@dataclass(frozen=True)
class GivenRating:
    """A rater's score of a report, and its day."""

    value: float
    at: datetime


def rating_by(connection: Connection, track: str, team_id: int, rater: str) -> GivenRating | None:
    """Return what a rater gave a team's report; None where that is nothing."""
    whose = sa.and_(ratings.c.track == track, ratings.c.team_id == team_id, ratings.c.rater == rater)
    row = connection.execute(sa.select(ratings.c.value, ratings.c.at).where(whose)).one_or_none()
    return None if row is None else GivenRating(row.value, row.at)


def ratings_of(connection: Connection, track: str) -> list[Rating]:
    """Return all that raters gave the reports of teams that are shown, by team and rater."""
    rows = connection.execute(
        sa.select(ratings, teams.c.name, teams.c.kind)
        .join(teams, teams.c.id == ratings.c.team_id)
        .where(ratings.c.track == track, ~teams.c.hidden)
        .order_by(ratings.c.team_id, ratings.c.rater)
    )
    return [Rating(row.team_id, row.name, row.kind, row.rater, row.value) for row in rows]
