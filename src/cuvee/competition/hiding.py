"""Takes submissions and teams off the pages, and puts them back. A ranking that is out is made again without them."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition import audit
from cuvee.competition.actors import Actor
from cuvee.competition.facts import hold_facts_alone
from cuvee.competition.final import rank_again
from cuvee.competition.refusals import Refusal
from cuvee.competition.revision import changed
from cuvee.competition.tables import submissions, teams
from cuvee.submission.competition import Competition


def hide_submission(
    connection: Connection, organiser: Actor, submission_id: int, hidden: bool, competition: Competition, now: datetime
) -> None:
    """Take a submission off the public pages, or put it back."""
    _set_hidden(connection, submissions, submission_id, hidden, "submission")
    subject = f"submission {submission_id}"
    action = "hidden" if hidden else "shown"
    audit.record(connection, organiser, action, subject, now)
    rank_again(connection, organiser, competition, now, why=f"{subject} {action}")


def hide_team(
    connection: Connection, organiser: Actor, team_id: int, hidden: bool, competition: Competition, now: datetime
) -> None:
    """Take a team with all its submissions off the public pages, or put it back."""
    _set_hidden(connection, teams, team_id, hidden, "team")
    subject = f"team {team_id}"
    action = "team hidden" if hidden else "team shown"
    audit.record(connection, organiser, action, subject, now)
    rank_again(connection, organiser, competition, now, why=f"{subject} {'hidden' if hidden else 'shown'}")


def _set_hidden(connection: Connection, table: sa.Table, number: int, hidden: bool, noun: str) -> None:
    """Set the mark, while nobody publishes: a ranking is made of those who are shown then."""
    hold_facts_alone(connection)
    change = table.update().where(table.c.id == number).values(hidden=hidden)
    if not connection.execute(change).rowcount:
        raise Refusal("not_found", f"there is no {noun} {number}")
    changed(connection)
