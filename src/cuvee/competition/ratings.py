"""What raters give written reports: entered by the organiser or by themselves, and out with the final ranking."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition import audit
from cuvee.competition.actors import Actor
from cuvee.competition.facts import hold_facts_alone
from cuvee.competition.final import rank_again
from cuvee.competition.refusals import Refusal
from cuvee.competition.revision import changed
from cuvee.competition.tables import ratings, teams
from cuvee.submission.competition import Competition

MOST_RATERS = 50


def rate(
    connection: Connection,
    by: Actor,
    competition: Competition,
    track_name: str,
    team_id: int,
    rater: str,
    value: float | None,
    now: datetime,
) -> None:
    """Enter what a rater gives a team's report, in place of an earlier one; None takes it back.

    A final that is out is made again. Raises Refusal for a track that is not by reports, for no such team, and for
    somebody who is none of the raters, where the file names them.
    """
    hold_facts_alone(connection)
    track = competition.track(track_name)
    if track is None or track.by != "report":
        of_reports = [track.name for track in competition.tracks if track.by == "report"]
        names = ", ".join(of_reports) or "none"
        raise Refusal("not_found", f"there is no track of reports '{track_name[:80]}'", hint=f"there are: {names}")
    name = " ".join(rater.split())
    has_length = 0 < len(name) <= 80
    if not has_length or not name.isprintable():
        raise Refusal("bad_request", "a rater has a name of at most 80 characters that can be shown")
    if track.raters and name not in track.raters:
        raise Refusal(
            "bad_request", f"'{name}' is no rater of '{track.name}'", hint=f"one of {', '.join(track.raters)}"
        )
    if value is not None and not 0 <= value <= track.scale:
        raise Refusal("bad_request", f"a report gets 0 to {track.scale:g}, not {value:g}")
    kind = connection.execute(sa.select(teams.c.kind).where(teams.c.id == team_id)).scalar()
    if kind != "participant":
        raise Refusal("not_found", f"there is no team {team_id} that takes part")
    whose = {"track": track.name, "team_id": team_id, "rater": name}
    given = sa.and_(*(ratings.c[column] == content for column, content in whose.items()))
    gone = connection.execute(ratings.delete().where(given)).rowcount
    if value is None and not gone:
        raise Refusal("not_found", f"'{name}' has given this report nothing")
    if value is not None:
        _check_room(connection, track.name, team_id)
        connection.execute(ratings.insert().values(**whose, value=value, at=now))
    audit.record(connection, by, "rated", f"team {team_id}", now, track=track.name, rater=name, value=value)
    changed(connection)
    rank_again(connection, by, competition, now, why=f"the report of team {team_id} was rated")


def _check_room(connection: Connection, track: str, team_id: int) -> None:
    """Refuse a rater too many."""
    mine = sa.and_(ratings.c.track == track, ratings.c.team_id == team_id)
    if connection.execute(sa.select(sa.func.count()).where(mine)).scalar_one() >= MOST_RATERS:
        raise Refusal("bad_request", f"a report has at most {MOST_RATERS} raters")
