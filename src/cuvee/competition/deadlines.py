"""A competition as it is in force: its phases as the file says, moved by what the organiser has added since."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from sqlalchemy.engine import Connection

from cuvee.competition.facts import EXTENDED, fact
from cuvee.submission.competition import Competition, Phase, Track


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
    tracks = tuple(_with_more_time(track, competition, seconds) for track in competition.tracks)
    return replace(competition, phases=tuple(phases), tracks=tracks)


def _with_more_time(track: Track, competition: Competition, seconds: Mapping[str, float]) -> Track:
    """Move a track's deadline for reports by as much as the phases that close no later than it."""
    if track.upload is None or track.upload.closes is None:
        return track
    closes = track.upload.closes
    more = sum(seconds.get(phase.name, 0.0) for phase in competition.phases if phase.closes <= closes)
    return replace(track, upload=replace(track.upload, closes=closes + timedelta(seconds=more)))
