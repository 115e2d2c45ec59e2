"""The public board: the best shown submission of each team, in an order that says how sure it is.

Built from public results alone. Ranks are ranges: an entry counts as better than another only where the interval of
their paired difference excludes zero. Parents and baselines stand in the order but take no rank.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition.comparisons import Bounds, Items, all_differences, weighted_score
from cuvee.competition.database import Database
from cuvee.competition.revision import revision
from cuvee.competition.shown import is_shown
from cuvee.competition.tables import public_results, submissions, teams
from cuvee.evaluate.ranking import rank_ranges
from cuvee.report import Figure
from cuvee.submission.competition import Competition, TieBreak

PARTICIPANT = "participant"
Comparison = Literal["better", "worse", "unclear", ""]


@dataclass(frozen=True)
class Entry:
    """A team's best submission of a phase. `entries` counts all that the team has on the board's phase."""

    submission_id: int
    team_id: int
    team: str
    kind: str
    title: str
    note: str
    score: Figure
    tasks: Mapping[str, Figure]
    items: Items
    seconds: float
    memory_bytes: int
    tokens: int
    parameters: int
    submitted_at: datetime
    entries: int


@dataclass(frozen=True)
class Place:
    """One row: an entry, its plausible ranks (parents and baselines have none), how it stands to the best parent."""

    entry: Entry
    ranks: tuple[int, int] | None
    against_parent: Comparison

    @property
    def rank(self) -> str:
        """Write the rank: "4", "2–5", or a dash."""
        return shown_rank(self.ranks)


@dataclass(frozen=True)
class Board:
    """All rows of a phase, best first. `weights` are those of the tasks that it is ordered by."""

    phase: str
    revision: int
    weights: Mapping[str, float]
    places: tuple[Place, ...]
    best_parent: str


def shown_rank(ranks: tuple[int, int] | None) -> str:
    """Write a range of ranks."""
    if ranks is None:
        return "–"
    best, worst = ranks
    return f"{best}" if best == worst else f"{best}–{worst}"


class Boards:
    """The boards of a database, each computed once for every revision of its contents."""

    def __init__(self, database: Database, competition: Competition) -> None:
        self._database = database
        self._competition = competition
        self._known: dict[str, Board] = {}

    def board(self, phase: str) -> Board:
        """Return the present board of a phase."""
        with self._database.read() as connection:
            now = revision(connection)
            known = self._known.get(phase)
            if known is None or known.revision != now:
                known = make_board(connection, self._competition, phase)
                self._known[phase] = known
        return known


def make_board(connection: Connection, competition: Competition, phase: str) -> Board:
    """Read and rank a phase's entries."""
    weights = {task.name: task.weight for task in competition.tasks}
    entries = [_entry(row, weights) for row in connection.execute(_best_of_each_team(phase)).all()]
    comparable = [entry for entry in entries if _fits(entry, entries)]
    return arrange(comparable, weights, competition.ranking.tie_breaks, phase=phase, revision=revision(connection))


def arrange(
    entries: Sequence[Entry], weights: Mapping[str, float], tie_breaks: Sequence[TieBreak], *, phase: str, revision: int
) -> Board:
    """Order entries by score and tie-breaks, and compute how sure the order is."""
    ordered = sorted(entries, key=lambda entry: (-round(entry.score.value, 12), *_tie_keys(entry, tie_breaks)))
    parent = next((index for index, entry in enumerate(ordered) if entry.kind == "parent"), None)
    bounds = all_differences([entry.items for entry in ordered], weights)
    ranges = _ranges(ordered, bounds)
    places = tuple(
        Place(entry, ranges.get(index), _against(bounds, index, parent)) for index, entry in enumerate(ordered)
    )
    return Board(phase, revision, weights, places, "" if parent is None else ordered[parent].team)


def with_weights(board: Board, weights: Mapping[str, float], tie_breaks: Sequence[TieBreak]) -> Board:
    """Answer "what if the tasks had other weights": the same entries, scored and ordered anew."""
    share = {task: max(0.0, weights.get(task, 0.0)) for task in board.weights}
    if sum(share.values()) <= 0:
        return board
    entries = [replace(place.entry, score=weighted_score(place.entry.items, share)) for place in board.places]
    return arrange(entries, share, tie_breaks, phase=board.phase, revision=board.revision)


def pareto_front(places: Sequence[Place], cost: Callable[[Entry], float]) -> tuple[Place, ...]:
    """Return the rows that no other row beats in score without costing more, cheapest first."""
    front: list[Place] = []
    for place in sorted(places, key=lambda each: (cost(each.entry), -each.entry.score.value)):
        if not front or place.entry.score.value > front[-1].entry.score.value:
            front.append(place)
    return tuple(front)


def _best_of_each_team(phase: str) -> sa.Select[Any]:
    per_team: dict[str, Any] = {"partition_by": submissions.c.team_id}
    order = (public_results.c.value.desc(), public_results.c.seconds, submissions.c.submitted_at, submissions.c.id)
    numbered = (
        sa.select(
            submissions.c.id.label("id"),
            sa.func.row_number().over(**per_team, order_by=order).label("nth"),
            sa.func.count().over(**per_team).label("entries"),
        )
        .join(public_results, public_results.c.submission_id == submissions.c.id)
        .join(teams, teams.c.id == submissions.c.team_id)
        .where(submissions.c.phase == phase, public_results.c.released, is_shown())
        .subquery()
    )
    return (
        sa.select(submissions, public_results, teams.c.name, teams.c.kind, numbered.c.entries)
        .join(numbered, numbered.c.id == submissions.c.id)
        .join(public_results, public_results.c.submission_id == submissions.c.id)
        .join(teams, teams.c.id == submissions.c.team_id)
        .where(numbered.c.nth == 1)
    )


def _entry(row: Row[Any], weights: Mapping[str, float]) -> Entry:
    found = row._mapping
    return Entry(
        submission_id=row.id,
        team_id=row.team_id,
        team=found[teams.c.name],
        kind=found[teams.c.kind],
        title=row.title,
        note=found[submissions.c.note],
        score=Figure(row.value, row.low, row.high),
        tasks={task: Figure(f["value"], f["low"], f["high"]) for task, f in row.tasks.items() if task in weights},
        items=row.item_scores,
        seconds=row.seconds,
        memory_bytes=row.memory_bytes,
        tokens=row.tokens,
        parameters=row.parameters,
        submitted_at=row.submitted_at,
        entries=row.entries,
    )


def _fits(entry: Entry, entries: Sequence[Entry]) -> bool:
    """Leave out what was scored on other items than the newest: it cannot be compared before it is judged again."""
    newest = max(entries, key=lambda each: each.submission_id)
    return {t: len(v) for t, v in entry.items.items()} == {t: len(v) for t, v in newest.items.items()}


def _tie_keys(entry: Entry, tie_breaks: Sequence[TieBreak]) -> tuple[float, ...]:
    keys: dict[TieBreak, float] = {
        "cost": entry.seconds,
        "tokens": entry.tokens,
        "parameters": entry.parameters,
        "earlier": entry.submitted_at.timestamp(),
    }
    return (*(keys[name] for name in tie_breaks), entry.submission_id)


def _ranges(entries: Sequence[Entry], bounds: Bounds) -> dict[int, tuple[int, int]]:
    """Rank those that compete; the others are left out of the count."""
    competing = [index for index, entry in enumerate(entries) if entry.kind == PARTICIPANT]
    if not competing:
        return {}
    chosen = np.ix_(competing, competing)
    return dict(zip(competing, rank_ranges(bounds.low[chosen], bounds.high[chosen]), strict=True))


def _against(bounds: Bounds, index: int, parent: int | None) -> Comparison:
    """Compare an entry with the best parent on the same items."""
    if parent is None or index == parent:
        return ""
    low, high = float(bounds.low[index, parent]), float(bounds.high[index, parent])
    return "better" if low > 0 else "worse" if high < 0 else "unclear"
