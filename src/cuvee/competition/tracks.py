"""The tracks of a competition as everybody sees them: a board of public results, and the final once it is published.

A board is computed once for every revision of the database, as the main one is.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition.board import read_details
from cuvee.competition.chosen import gaps_of
from cuvee.competition.comparisons import Items, on_the_newest_items
from cuvee.competition.database import Database
from cuvee.competition.refusals import Refusal
from cuvee.competition.revision import revision
from cuvee.competition.runs import PUBLIC
from cuvee.competition.shown import is_shown
from cuvee.competition.tables import public_results, submissions, teams, track_places
from cuvee.competition.track_order import Contender, Cost, Standing, may_stand, order, order_key
from cuvee.report import Figure
from cuvee.submission.competition import Competition, Track

SHOWN = frozenset(
    {
        *("id", "team_id", "title", "note", "submitted_at"),
        *("value", "low", "high", "seconds", "cpu_seconds", "memory_bytes", "tokens", "tuning_tokens", "parameters"),
    }
)
"""Columns of a submission and its result that a row of a track shows: no recipes, no scores of single items."""


@dataclass(frozen=True)
class TrackBoard:
    """A track's board at one revision. Before the reveal a track of reports has no rows: nobody sees a rating."""

    track: Track
    revision: int
    rows: tuple[Standing, ...]


class TrackBoards:
    """The boards of all tracks, each computed once for every revision, however many ask at once."""

    def __init__(self, database: Database, competition: Competition) -> None:
        self._database = database
        self._competition = competition
        self._lock = threading.Lock()
        self._boards: dict[str, TrackBoard] = {}

    def board(self, name: str) -> TrackBoard:
        """Return the present board of a track, in the first phase that shows public scores."""
        track = track_of(self._competition, name)
        with self._lock, self._database.read() as connection:
            now = revision(connection)
            board = self._boards.get(name)
            if board is None or board.revision != now:
                board = TrackBoard(track, now, track_rows(connection, self._competition, track))
                self._boards[name] = board
        return board


def track_of(competition: Competition, name: str) -> Track:
    """Return a track by its name. Raises Refusal 'not_found'."""
    track = competition.track(name)
    if track is None:
        names = [track.name for track in competition.tracks]
        hint = f"there are: {', '.join(names) or 'none'}"
        raise Refusal("not_found", f"there is no track '{name[:80]}'", hint=hint)
    return track


def track_rows(connection: Connection, competition: Competition, track: Track) -> tuple[Standing, ...]:
    """Order a track by public results."""
    phase = competition.first_public_phase
    if track.by == "report" or phase is None:
        return ()
    if phase.feedback == "none":
        return ()
    weights = {task.name: task.weight for task in competition.tasks}
    gaps = gaps_of(connection, competition, PUBLIC)
    best = _best_rows(connection, phase.name, track, gaps)
    details = read_details(connection, [row.id for row in best], weights)
    contenders = [_contender(row, details[row.id].items, gaps.get(row.id)) for row in best if row.id in details]
    comparable = on_the_newest_items(contenders, lambda one: one.submission_id, lambda one: one.items)
    return order(track, comparable, weights)


def _best_rows(connection: Connection, phase: str, track: Track, gaps: Mapping[int, float]) -> list[Row[Any]]:
    """Return each team's best result that may stand in a track."""
    columns = [column for column in (*submissions.c, *public_results.c) if column.name in SHOWN]
    query: sa.Select[Any] = (
        sa.select(*columns, teams.c.name.label("team"), teams.c.kind)
        .join(public_results, public_results.c.submission_id == submissions.c.id)
        .join(teams, teams.c.id == submissions.c.team_id)
        .where(submissions.c.phase == phase, public_results.c.released, is_shown())
        .order_by(submissions.c.id)
    )
    best: dict[int, tuple[tuple[float, ...], Row[Any]]] = {}
    for row in connection.execute(query).all():
        cost = Cost(row.value, row.tokens, row.cpu_seconds, row.tuning_tokens, gaps.get(row.id))
        if not may_stand(track, cost):
            continue
        key = order_key(track, cost)
        if row.team_id not in best or key < best[row.team_id][0]:
            best[row.team_id] = (key, row)
    return [row for _, row in best.values()]


def _contender(row: Row[Any], items: Items, gap: float | None) -> Contender:
    return Contender(
        submission_id=row.id,
        team_id=row.team_id,
        team=row.team,
        kind=row.kind,
        title=row.title,
        score=Figure(row.value, row.low, row.high),
        items=items,
        board_score=row.value,
        tokens=row.tokens,
        cpu_seconds=row.cpu_seconds,
        tuning_tokens=row.tuning_tokens,
        gap=gap,
    )


def final_rows(connection: Connection, track: Track) -> tuple[Standing, ...]:
    """Read the final of a track, which is empty before the final ranking is published."""
    rows = connection.execute(
        sa.select(track_places, teams.c.name, teams.c.kind, submissions.c.title)
        .join(teams, teams.c.id == track_places.c.team_id)
        .join(submissions, submissions.c.id == track_places.c.submission_id, isouter=True)
        .where(track_places.c.track == track.name, ~teams.c.hidden)
        .order_by(track_places.c.place)
    )
    return tuple(
        Standing(
            place=row.place,
            ranks=(row.rank_low, row.rank_high) if row.rank_low else None,
            team_id=row.team_id,
            team=row.name,
            kind=row.kind,
            value=row.value,
            low=row.low,
            high=row.high,
            submission_id=row.submission_id,
            title=row.title or "",
            score=row.score,
            tokens=row.tokens,
            cpu_seconds=row.cpu_seconds,
            tuning_tokens=row.tuning_tokens,
            raters=row.raters,
        )
        for row in rows
    )
