"""A competition as it is in force: its phases as the file says, moved by what the organiser has added since."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from sqlalchemy.engine import Connection

from cuvee.competition.facts import EXTENDED, fact
from cuvee.submission.competition import Competition, Phase


def in_force(connection: Connection, competition: Competition) -> Competition:
    """Return the competition with the deadlines that count now."""
    added = fact(connection, EXTENDED)
    return with_more_time(competition, added) if added else competition


def with_more_time(competition: Competition, seconds: Mapping[str, float]) -> Competition:
    """Let phases close later by so many seconds, by their names; those after them move by as much."""
    moved = timedelta()
    phases: list[Phase] = []
    for phase in competition.phases:
        more = timedelta(seconds=seconds.get(phase.name, 0.0))
        phases.append(replace(phase, opens=phase.opens + moved, closes=phase.closes + moved + more))
        moved += more
    return replace(competition, phases=tuple(phases))
