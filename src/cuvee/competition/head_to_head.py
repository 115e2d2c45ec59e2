"""Two teams on the same items: how far apart they are in each task, and on how many items one is right alone.

All of it is of the public board's entries, whose items and scores everybody may have.
"""

from dataclasses import dataclass

import numpy as np

from cuvee.competition.board import Board, Entry
from cuvee.competition.comparisons import Items, Scores
from cuvee.competition.refusals import Refusal

ONE, OTHER = np.array([0]), np.array([1])


@dataclass(frozen=True)
class Apart:
    """One entry minus another in a task or over all: with the 95 % interval, and items that only one is better on."""

    name: str
    value: float
    low: float
    high: float
    won: int
    lost: int
    items: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class HeadToHead:
    """Two entries of a board: the difference by the board's weights, and by task."""

    one: Entry
    other: Entry
    whole: Apart
    tasks: tuple[Apart, ...]

    @property
    def sentence(self) -> str:
        """Say who is ahead, as far as the items tell."""
        if not self.whole.is_clear:
            return f"The items do not tell {self.one.team} and {self.other.team} apart."
        ahead, behind = (self.one, self.other) if self.whole.value > 0 else (self.other, self.one)
        return f"{ahead.team} is ahead of {behind.team}."


def head_to_head(board: Board, one: int, other: int) -> HeadToHead:
    """Compare the entries of two teams, by their numbers. Raises Refusal for a team that is not on the board."""
    first, second = _entry(board, one), _entry(board, other)
    if one == other:
        raise Refusal("bad_request", "a team is compared with another one", hint="choose two teams")
    scores = Scores([first.items, second.items], board.weights)
    whole = apart("all tasks", scores, dict(board.weights), first.items, second.items)
    tasks = tuple(apart(task, scores, {task: 1.0}, first.items, second.items) for task in board.weights)
    return HeadToHead(first, second, whole, tasks)


def _entry(board: Board, team: int) -> Entry:
    for entry in board.entries:
        if entry.team_id == team:
            return entry
    raise Refusal("not_found", f"team {team} is not on the board of the phase {board.phase}")


def apart(name: str, scores: Scores, weights: dict[str, float], one: Items, other: Items) -> Apart:
    """Say how far the first of two entries is from the second, of which `scores` holds the items and no others."""
    bounds = scores.differences(ONE, OTHER, weights)
    won = lost = items = 0
    for task in weights:
        gaps = np.asarray(one[task], dtype=np.float64) - np.asarray(other[task], dtype=np.float64)
        won, lost, items = won + int((gaps > 0).sum()), lost + int((gaps < 0).sum()), items + len(gaps)
    value, low, high = (float(bound[0, 0]) for bound in (bounds.value, bounds.low, bounds.high))
    return Apart(name, value, low, high, won, lost, items)
