"""How a scored submission stands: its place on the board, and how far it is from others on the same items."""

from dataclasses import dataclass

import numpy as np
from sqlalchemy.engine import Connection

from cuvee.competition.board import PARTICIPANT, Board, Entry, Place, read_details
from cuvee.competition.comparisons import Items, Scores, item_counts
from cuvee.competition.head_to_head import Apart, apart


@dataclass(frozen=True)
class Difference:
    """A submission minus an entry of the board, in the words by which a page calls that."""

    to: str
    entry: Entry
    apart: Apart


@dataclass(frozen=True)
class Stand:
    """A submission beside the board. `place` is its row where it is its team's best, `parent` the best parent's entry.

    `items` are its scores of the board's items, by task.
    """

    place: Place | None
    teams: int
    differences: tuple[Difference, ...]
    parent: Entry | None
    items: Items


def how_it_stands(connection: Connection, board: Board, submission_id: int, team_id: int) -> Stand | None:
    """Compare a submission whose score may be seen with the board; None where it was scored on other items."""
    place = next((place for place in board.places if place.entry.submission_id == submission_id), None)
    items = place.entry.items if place else _items_of(connection, board, submission_id)
    if items is None or not _are_the_boards(items, board):
        return None
    rivals = _rivals(board, submission_id, team_id)
    differences = tuple(Difference(to, entry, _difference(board, items, entry)) for to, entry in rivals.items())
    teams = sum(place.entry.kind == PARTICIPANT for place in board.places)
    return Stand(place, teams, differences, _best(board, "parent"), items)


def _items_of(connection: Connection, board: Board, submission_id: int) -> Items | None:
    detail = read_details(connection, [submission_id], board.weights).get(submission_id)
    return None if detail is None else detail.items


def _are_the_boards(items: Items, board: Board) -> bool:
    return bool(board.entries) and item_counts(items) == item_counts(board.entries[0].items)


def _rivals(board: Board, submission_id: int, team_id: int) -> dict[str, Entry]:
    """Return the entries to compare with, each once, by what a page calls them."""
    own = next((entry for entry in board.entries if entry.team_id == team_id), None)
    named = {
        "its team's best": own,
        "the leader": _best(board, PARTICIPANT),
        "the best parent": _best(board, "parent"),
        "the best baseline": _best(board, "baseline"),
    }
    rivals: dict[str, Entry] = {}
    seen = {submission_id}
    for to, entry in named.items():
        if entry is not None and entry.submission_id not in seen:
            rivals[to] = entry
            seen.add(entry.submission_id)
    return rivals


def _best(board: Board, kind: str) -> Entry | None:
    return next((place.entry for place in board.places if place.entry.kind == kind), None)


def _difference(board: Board, items: Items, other: Entry) -> Apart:
    scores = Scores([items, other.items], board.weights)
    return apart("all tasks", scores, dict(board.weights), items, other.items)


@dataclass(frozen=True)
class AnsweredItem:
    """A public item: what it asks, what is right, and the scores (0 to 1) of a submission and of the best parent."""

    question: str
    answer: str
    score: float
    parent: float | None


@dataclass(frozen=True)
class AnsweredTask:
    """The public items of a task as a submission answered them. `total` and `parent_total` are sums of all scores."""

    name: str
    items: tuple[AnsweredItem, ...]
    count: int
    total: float
    parent_total: float | None


MOST_ITEMS = 100
"""Of each task, on a page."""


def answered(stand: Stand, questions: dict[str, tuple[tuple[str, str], ...]]) -> tuple[AnsweredTask, ...]:
    """Put a submission's scores beside the public items, of tasks whose items are on the server."""
    tasks = []
    for name, scores in stand.items.items():
        asked = questions.get(name, ())
        if len(asked) != len(scores):
            continue
        parents = stand.parent.items[name] if stand.parent else None
        items = []
        for number, (question, answer) in enumerate(asked[:MOST_ITEMS]):
            parent = None if parents is None else float(parents[number])
            items.append(AnsweredItem(question, answer, float(scores[number]), parent))
        total = None if parents is None else float(np.sum(parents))
        tasks.append(AnsweredTask(name, tuple(items), len(asked), float(np.sum(scores)), total))
    return tuple(tasks)
