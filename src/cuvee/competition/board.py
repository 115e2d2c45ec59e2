"""The public board: the best shown submission of each team, in an order that says how sure it is.

Built from public results alone. Ranks are ranges: an entry counts as better than another only where the interval of
their paired difference excludes zero. Parents and baselines stand in the order but take no rank.

A board is computed once for all readers. Its entries are compared with each other only where somebody looks at them.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cuvee.competition.comparisons import Indexes, Items, Scores, on_the_newest_items
from cuvee.competition.database import Database
from cuvee.competition.revision import revision
from cuvee.competition.runs import PUBLIC
from cuvee.competition.shown import is_shown
from cuvee.competition.tables import public_results, runs, submissions, teams
from cuvee.report import Figure
from cuvee.submission.competition import Competition, TieBreak

PARTICIPANT = "participant"
MOST_WHAT_IFS = 16
"""Boards by other weights that are kept; with 3000 teams each takes about 1 MB."""

READ_AT_ONCE = 100
"""Results that are read at once: a database takes only so many numbers in one question, and their text takes memory."""

Comparison = Literal["better", "worse", "unclear", ""]


class Entry(NamedTuple):
    """A team's best submission of a phase, with its score by the competition's weights.

    `entries` counts all that the team has on the board's phase. `result_key` is the digest of the verdict that tasks
    and items come from; nothing while the submission is judged again. Thousands are made anew after each change, which
    takes a frozen dataclass six times as long as a tuple.
    """

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
    cpu_seconds: float | None
    memory_bytes: int | None
    tokens: int
    parameters: int
    submitted_at: datetime
    entries: int
    result_key: str = ""


class Detail(NamedTuple):
    """What takes long to read of a result: its tasks' figures and the score of each item."""

    tasks: Mapping[str, Figure]
    items: Items


class Ranges:
    """The plausible ranks of a board's participants, by the number of their entry, computed when somebody looks."""

    def __init__(self, scores: Scores, participants: Sequence[int], weights: Mapping[str, float]) -> None:
        self._scores = scores
        self._participants = frozenset(participants)
        self._rivals: Indexes = np.array(participants, dtype=np.intp)
        self._weights = weights
        self._known: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def find(self, entries: Iterable[int]) -> None:
        """Compute the ranks of several entries at once."""
        wanted = self._participants.intersection(entries)
        if wanted <= self._known.keys():
            return
        with self._lock:
            missing = sorted(wanted - self._known.keys())
            rows = np.array(missing, dtype=np.intp)
            self._known.update(zip(missing, self._scores.ranks(rows, self._rivals, self._weights), strict=True))

    def of(self, entry: int) -> tuple[int, int] | None:
        """Return the best and the worst plausible rank of an entry; None for one that takes no rank."""
        if entry not in self._known:
            self.find([entry])
        return self._known.get(entry)


class Place(NamedTuple):
    """One row: an entry, its score by the board's weights, how it stands to the best parent, and its plausible ranks
    (parents and baselines have none). `number` is that of the entry among those of the board.
    """

    entry: Entry
    number: int
    score: Figure
    against_parent: Comparison
    ranges: Ranges

    @property
    def ranks(self) -> tuple[int, int] | None:
        """Return the best and the worst plausible rank."""
        return self.ranges.of(self.number)

    @property
    def rank(self) -> str:
        """Write the rank: "4", "2–5", or a dash."""
        return shown_rank(self.ranks)


@dataclass(frozen=True, eq=False)
class Board:
    """All rows of a phase, best first. `weights` are those of the tasks that it is ordered by.

    `entries` and `scores` are the same for all weights, in one order. `texts` keeps the board as it was written, by
    format, which takes longer than all else with thousands of teams; who writes one holds the lock.
    """

    phase: str
    revision: int
    weights: Mapping[str, float]
    places: tuple[Place, ...]
    best_parent: str
    entries: tuple[Entry, ...]
    scores: Scores
    texts: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


def find_ranks(places: Sequence[Place]) -> None:
    """Compute the ranks of rows of one board at once, before they are shown one by one."""
    if places:
        places[0].ranges.find(place.number for place in places)


def shown_rank(ranks: tuple[int, int] | None) -> str:
    """Write a range of ranks."""
    if ranks is None:
        return "–"
    best, worst = ranks
    return f"{best}" if best == worst else f"{best}–{worst}"


class Boards:
    """The boards of a database, each computed once for every revision of its contents, however many ask at once."""

    def __init__(self, database: Database, competition: Competition) -> None:
        self._database = database
        self._competition = competition
        self._lock = threading.Lock()
        self._boards: dict[str, Board] = {}
        self._what_ifs: OrderedDict[tuple[str, tuple[float, ...]], Board] = OrderedDict()

    def board(self, phase: str) -> Board:
        """Return the present board of a phase."""
        with self._database.read() as connection:
            now = revision(connection)
        board = self._boards.get(phase)
        if board is not None and board.revision == now:
            return board
        with self._lock, self._database.read() as connection:
            board = self._boards.get(phase)
            if board is None or board.revision != revision(connection):
                earlier = () if board is None else board.entries
                board = make_board(connection, self._competition, phase, earlier)
                self._boards[phase] = board
                self._forget_what_ifs(phase)
        return board

    def _forget_what_ifs(self, phase: str) -> None:
        """Let go of the boards by other weights of an earlier revision, which hold all of its entries."""
        for key in [key for key in self._what_ifs if key[0] == phase]:
            del self._what_ifs[key]

    def what_if(self, phase: str, weights: Mapping[str, float]) -> Board:
        """Return the present board of a phase as other weights of the tasks would order it."""
        board = self.board(phase)
        if weights == board.weights:
            return board
        key = (phase, tuple(weights.get(task, 0.0) for task in board.weights))
        with self._lock:
            other = self._what_ifs.pop(key, None)
            if other is None or other.revision != board.revision:
                other = with_weights(board, weights, self._competition.ranking.tie_breaks)
            self._what_ifs[key] = other
            if len(self._what_ifs) > MOST_WHAT_IFS:
                self._what_ifs.popitem(last=False)
        return other


def make_board(connection: Connection, competition: Competition, phase: str, earlier: Iterable[Entry] = ()) -> Board:
    """Read and rank a phase's entries. Scores of items are taken from `earlier` ones where the verdict is the same."""
    weights = {task.name: task.weight for task in competition.tasks}
    rows = connection.execute(_best_of_each_team(phase)).all()
    details = {entry.result_key: Detail(entry.tasks, entry.items) for entry in earlier if entry.result_key}
    missing = [row.id for row in rows if row.result_key not in details]
    read = read_details(connection, missing, weights)
    results = []
    for row in rows:
        detail = read.get(row.id) or details[row.result_key]
        results.append((row, detail))
    comparable = on_the_newest_items(results, lambda result: result[0].id, lambda result: result[1].items)
    scores = _scores([detail.items for _, detail in comparable], weights)
    entries = []
    for number, (row, detail) in enumerate(comparable):
        items = {**detail.items, **scores.items_of(number)}  # no second copy of them is kept
        entries.append(_entry(row, Detail(detail.tasks, items)))
    board = Board(phase, revision(connection), weights, (), "", tuple(entries), scores)
    return _ordered(board, [entry.score for entry in entries], competition.ranking.tie_breaks)


def arrange(
    entries: Sequence[Entry], weights: Mapping[str, float], tie_breaks: Sequence[TieBreak], *, phase: str, revision: int
) -> Board:
    """Order entries by score and tie-breaks; how sure the order is comes out where somebody looks."""
    scores = _scores([entry.items for entry in entries], weights)
    board = Board(phase, revision, weights, (), "", tuple(entries), scores)
    return _ordered(board, [entry.score for entry in entries], tie_breaks)


def _scores(items: Sequence[Items], weights: Mapping[str, float]) -> Scores:
    """Gather the scores of entries on the tasks that they have."""
    asked = items[0] if items else {}
    return Scores(items, [task for task in weights if task in asked])


def with_weights(board: Board, weights: Mapping[str, float], tie_breaks: Sequence[TieBreak]) -> Board:
    """Answer "what if the tasks had other weights": the same entries, scored and ordered anew."""
    share = {task: max(0.0, weights.get(task, 0.0)) for task in board.weights}
    if sum(share.values()) <= 0 or share == dict(board.weights):
        return board
    return _ordered(replace(board, weights=share), board.scores.averages(share), tie_breaks)


def _ordered(board: Board, figures: Sequence[Figure], tie_breaks: Sequence[TieBreak]) -> Board:
    """Fill in the places of a board by the score of each entry."""
    entries = board.entries

    def key(number: int) -> tuple[float, ...]:
        return (-round(figures[number].value, 12), *_tie_keys(entries[number], tie_breaks))

    order = sorted(range(len(entries)), key=key)
    parent = next((number for number in order if entries[number].kind == "parent"), None)
    against = _against(board, parent)
    participants = [number for number, entry in enumerate(entries) if entry.kind == PARTICIPANT]
    ranges = Ranges(board.scores, participants, board.weights)
    places = tuple(Place(entries[number], number, figures[number], against[number], ranges) for number in order)
    best_parent = "" if parent is None else entries[parent].team
    return replace(board, places=places, best_parent=best_parent, texts={})


def pareto_front(places: Sequence[Place], cost: Callable[[Entry], float]) -> tuple[Place, ...]:
    """Return the rows that no other row beats in score without costing more, cheapest first."""
    front: list[Place] = []
    for place in sorted(places, key=lambda each: (cost(each.entry), -each.score.value)):
        if not front or place.score.value > front[-1].score.value:
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
    submitted, result = submissions.c, public_results.c
    return (
        sa.select(  # `_entry` takes them in this order
            *(submitted.id, submitted.team_id, teams.c.name, teams.c.kind, submitted.title, submitted.note),
            *(result.value, result.low, result.high, result.seconds, result.cpu_seconds, result.memory_bytes),
            *(result.tokens, result.parameters, submitted.submitted_at, numbered.c.entries, runs.c.result_key),
        )
        .join(numbered, numbered.c.id == submissions.c.id)
        .join(public_results, public_results.c.submission_id == submissions.c.id)
        .join(teams, teams.c.id == submissions.c.team_id)
        .join(runs, sa.and_(runs.c.submission_id == submissions.c.id, runs.c.purpose == PUBLIC))
        .where(numbered.c.nth == 1)
    )


def read_details(connection: Connection, numbers: Sequence[int], weights: Mapping[str, float]) -> dict[int, Detail]:
    """Read the results of submissions, by the submission's number. Their text takes longer to read than all else."""
    details = {}
    for first in range(0, len(numbers), READ_AT_ONCE):
        block = public_results.c.submission_id.in_(numbers[first : first + READ_AT_ONCE])
        columns = (public_results.c.submission_id, public_results.c.tasks, public_results.c.item_scores)
        for number, tasks, scores in connection.execute(sa.select(*columns).where(block)).all():
            figures = {task: Figure(f["value"], f["low"], f["high"]) for task, f in tasks.items() if task in weights}
            items = {task: np.array(values, dtype=np.float64) for task, values in scores.items()}
            details[number] = Detail(figures, items)
    return details


def _entry(row: Row[Any], detail: Detail) -> Entry:
    # Unpacked at once: with thousands of rows, looking up each column by its name takes longer than the rest.
    submission_id, team_id, team, kind, title, note, value, low, high, *others = tuple(row)
    *costs, submitted_at, entries, result_key = others
    seconds, cpu_seconds, memory_bytes, tokens, parameters = costs
    return Entry(
        submission_id=submission_id,
        team_id=team_id,
        team=team,
        kind=kind,
        title=title,
        note=note,
        score=Figure(value, low, high),
        tasks=detail.tasks,
        items=detail.items,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        memory_bytes=memory_bytes,
        tokens=tokens,
        parameters=parameters,
        submitted_at=submitted_at,
        entries=entries,
        result_key=result_key,
    )


def _tie_keys(entry: Entry, tie_breaks: Sequence[TieBreak]) -> tuple[float, ...]:
    keys: dict[TieBreak, float] = {
        "cost": entry.seconds,
        "tokens": entry.tokens,
        "parameters": entry.parameters,
        "earlier": entry.submitted_at.timestamp(),
    }
    return (*(keys[name] for name in tie_breaks), entry.submission_id)


def _against(board: Board, parent: int | None) -> list[Comparison]:
    """Compare each entry with the best parent on the same items."""
    comparisons: list[Comparison] = [""] * len(board.entries)
    if parent is None:
        return comparisons
    everybody = np.arange(len(board.entries))
    bounds = board.scores.differences(everybody, np.array([parent]), board.weights)
    for number, (low, high) in enumerate(zip(bounds.low[:, 0], bounds.high[:, 0], strict=True)):
        if number != parent:
            comparisons[number] = _compared(low, high)
    return comparisons


def _compared(low: float, high: float) -> Comparison:
    """Say how entries compare by the interval of their difference."""
    if low > 0:
        return "better"
    return "worse" if high < 0 else "unclear"
