"""Who is on the pages: the one rule that the board, the final ranking, lists and single submissions ask."""

import sqlalchemy as sa

from cuvee.competition.tables import submissions, teams


def is_shown() -> sa.ColumnElement[bool]:
    """Hold for a submission, joined with its team, that visitors may see: neither of the two is hidden."""
    return sa.and_(~submissions.c.hidden, ~teams.c.hidden)
