"""How a competition goes, in numbers for everybody: teams, entries, what waits, and about how long it will take."""

from collections import Counter
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cuvee.competition.board import PARTICIPANT
from cuvee.competition.runs import PUBLIC
from cuvee.competition.shown import is_shown
from cuvee.competition.states import State
from cuvee.competition.tables import public_results, runs, submissions, teams, workers

NEWEST = 20
"""Results whose time says how long the next one will take."""

UNDER_WAY = (State.QUEUED.value, State.RUNNING.value)


@dataclass(frozen=True)
class Numbers:
    """Participants' teams and entries; of the organiser's own entries how many there are and how many are judged.

    `waiting` counts all entries that are not judged yet. `seconds_left` is a guess from the newest results, None
    without results or without a worker in service.
    """

    teams: int
    entries: int
    judged: int
    waiting: int
    own: int
    own_judged: int
    workers: int
    seconds_left: float | None


def numbers(connection: Connection) -> Numbers:
    """Count. Hidden teams and submissions are left out."""
    found = connection.execute(
        sa.select(teams.c.kind, runs.c.state, sa.func.count())
        .select_from(submissions)
        .join(teams, teams.c.id == submissions.c.team_id)
        .join(runs, sa.and_(runs.c.submission_id == submissions.c.id, runs.c.purpose == PUBLIC))
        .where(is_shown())
        .group_by(teams.c.kind, runs.c.state)
    )
    theirs, own = Counter[str](), Counter[str]()
    for kind, state, count in found:
        (theirs if kind == PARTICIPANT else own)[state] += count
    together = theirs + own
    waiting = sum(together[state] for state in UNDER_WAY)
    ready = connection.execute(sa.select(sa.func.count()).select_from(workers).where(workers.c.ready)).scalar_one()
    seconds = _seconds_of_one(connection)
    seconds_left = None
    if seconds is not None and ready:
        seconds_left = seconds * waiting / ready
    return Numbers(
        teams=_teams(connection),
        entries=theirs.total(),
        judged=theirs[State.SCORED.value],
        waiting=waiting,
        own=own.total(),
        own_judged=own[State.SCORED.value],
        workers=ready,
        seconds_left=seconds_left,
    )


def _teams(connection: Connection) -> int:
    shown = sa.and_(teams.c.kind == PARTICIPANT, sa.not_(teams.c.hidden))
    return int(connection.execute(sa.select(sa.func.count()).select_from(teams).where(shown)).scalar_one())


def _seconds_of_one(connection: Connection) -> float | None:
    newest = sa.select(public_results.c.seconds).order_by(public_results.c.submission_id.desc()).limit(NEWEST)
    found = connection.execute(newest).scalars().all()
    return sum(found) / len(found) if found else None
