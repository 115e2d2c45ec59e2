"""The board as a page: what the reader chose (sorting, filters, weights), the rows to show, the plot of costs."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from cuvee.competition.board import PARTICIPANT, Board, Entry, Place, find_ranks, pareto_front
from cuvee.competition.pages.paging import ROWS_PER_PAGE, page_of_rows, read_page_number
from cuvee.report import Figure

PATH = "/board"
AXIS_PIXELS = 150
ROW_PIXELS = 26
MOST_GAINS = 3
NAMED_DOTS = 6
LETTER_PIXELS = 12
LINE_PIXELS = 22
"""How large the names of dots are on a phone, in pixels of the plot."""

KINDS = ("participant", "parent", "baseline")
PLOTTED = 400
WEIGHT = "w."

ORDERS: dict[str, Callable[[Entry], float | str]] = {
    "score": lambda entry: -entry.score.value,
    "team": lambda entry: entry.team.casefold(),
    "seconds": lambda entry: entry.seconds,
    "cpu": lambda entry: math.inf if entry.cpu_seconds is None else entry.cpu_seconds,
    "memory": lambda entry: math.inf if entry.memory_bytes is None else entry.memory_bytes,
    "tokens": lambda entry: entry.tokens,
    "entries": lambda entry: -entry.entries,
    "submitted": lambda entry: entry.submitted_at.timestamp(),
}

ORDER_NAMES = {
    "score": "score",
    "team": "name",
    "seconds": "seconds",
    "cpu": "CPU seconds",
    "memory": "memory",
    "tokens": "tokens",
    "entries": "entries",
    "submitted": "time sent",
}
"""The orders in the words of the page."""


@dataclass(frozen=True)
class Choice:
    """What the reader chose, from the page's address. Anything that is not understood is left at its default.

    `at` is the number of a team whose page of the ranking is wanted, whichever that is now.
    """

    phase: str
    sort: str = "score"
    reverse: bool = False
    kind: str = ""
    find: str = ""
    weights: Mapping[str, float] | None = None
    page: int = 1
    at: int | None = None

    def link(self, **changes: str | int | bool) -> str:
        """Return the address of the board with something chosen otherwise."""
        chosen: dict[str, str | int | bool] = {
            "phase": self.phase,
            "sort": self.sort,
            "reverse": self.reverse,
            "kind": self.kind,
            "find": self.find,
            "page": 1,
        }
        chosen.update(changes)
        pairs = [(name, _written(value)) for name, value in chosen.items()]
        weights = self.weights or {}
        pairs += [(f"{WEIGHT}{task}", f"{weight:g}") for task, weight in weights.items()]
        return f"{PATH}?" + urlencode([pair for pair in pairs if not _goes_without_saying(*pair)])

    @property
    def without_weights(self) -> str:
        """Return the address of the board by the competition's own weights."""
        return replace(self, weights=None).link()

    def order_by(self, column: str) -> str:
        """Return the address that sorts by a column; by the same one again, the other way round."""
        return self.link(sort=column, reverse=self.sort == column and not self.reverse)

    def sorted_as(self, column: str) -> str:
        """Return what assistive technology is told of a column's order."""
        if self.sort != column:
            return "none"
        falling = column in ("score", "entries") or column.startswith("task.")
        return "descending" if falling != self.reverse else "ascending"


@dataclass(frozen=True)
class Axis:
    """Scores in pixels: from `low` to `high` over `width`, with ticks as (pixels, text). The row's grid is one path."""

    low: float
    high: float
    width: int
    ticks: tuple[tuple[float, str], ...]
    grid: str

    def at(self, score: float) -> float:
        """Return where a score is; one beyond an end is at the end."""
        share = (score - self.low) / (self.high - self.low)
        return round(self.width * min(max(share, 0.0), 1.0), 1)


@dataclass(frozen=True)
class Dot:
    """One entry in the plot, in pixels. `name` is written beside it, with `anchor` at that end; nothing for most."""

    x: float
    y: float
    place: Place
    on_front: bool
    name: str = ""
    anchor: str = "start"


@dataclass(frozen=True)
class Plot:
    """Score against tokens: dots, the line of the best for their cost, ticks as (pixels, text)."""

    width: int
    height: int
    dots: tuple[Dot, ...]
    line: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Gain:
    """A participant that stands higher by other weights, and by how many places."""

    team: str
    places: int


@dataclass(frozen=True)
class Shown:
    """What the page shows: some rows of the board with their place in it, and the plot of all.

    `own` is the reader's row where it is on another page, `own_page`. `counts` are the rows found by kind. `shifts`
    says by how many places each team stands higher than by the competition's weights; it and `gains` are empty for
    these. `parent` is where the best parent is on the axis.
    """

    rows: tuple[Place, ...]
    own: Place | None
    own_page: int
    counts: Mapping[str, int]
    page: int
    pages: int
    what_if: bool
    weights: Mapping[str, float]
    plot: Plot | None
    axis: Axis
    parent: float | None
    compares: bool
    shifts: Mapping[int, int]
    gains: tuple[Gain, ...]


def read_choice(query: Mapping[str, str], phases: Sequence[str], tasks: Sequence[str]) -> Choice:
    """Read what the reader chose. Weights are rounded to hundredths, so that readers share boards."""
    weights = {task: _weight(query.get(WEIGHT + task)) for task in tasks if WEIGHT + task in query}
    orders = [*ORDERS, *(f"task.{task}" for task in tasks)]
    return Choice(
        phase=_one_of(phases, query.get("phase", ""), phases[0]),
        sort=_one_of(orders, query.get("sort", ""), "score"),
        reverse=query.get("reverse") == "1",
        kind=_one_of(KINDS, query.get("kind", ""), ""),
        find=query.get("find", "")[:40].strip(),
        weights=weights or None,
        page=read_page_number(query.get("page", "1")),
        at=_team_number(query.get("at", "")),
    )


def _one_of(known: Sequence[str], written: str, otherwise: str) -> str:
    return written if written in known else otherwise


def _team_number(written: str) -> int | None:
    """Read the number of a team; None for what is none, or is too long to be one."""
    is_number = written.isascii() and written.isdigit() and len(written) < 10
    return int(written) if is_number else None


def arranged(
    board: Board,
    choice: Choice,
    *,
    usual: Board | None = None,
    reader: int | None = None,
    rows_per_page: int = ROWS_PER_PAGE,
) -> Shown:
    """Choose and order the rows to show. `usual` is the board by the competition's weights, where this is by others.

    `reader` is the number of the reader's team, whose row is shown on each page. A page beyond the last is the last.
    """
    places = _ordered_places(board, choice)
    teams = [place.entry.team_id for place in places]
    page = page_of_rows(places, teams, choice.page, at=choice.at, reader=reader, rows_per_page=rows_per_page)
    drawn = page.drawn
    find_ranks(drawn)
    parent = next((place for place in board.places if place.entry.team == board.best_parent), None)
    figures = [place.score for place in drawn]
    if parent:
        figures.append(parent.score)
    axis = axis_of(figures)
    shifts = {} if usual is None else _shifts(board, usual)
    return Shown(
        rows=page.rows,
        own=page.own,
        own_page=page.own_page,
        counts=Counter(place.entry.kind for place in places),
        page=page.page,
        pages=page.pages,
        what_if=usual is not None,
        weights=board.weights,
        plot=plot(places[:PLOTTED]),
        axis=axis,
        parent=None if parent is None else axis.at(parent.score.value),
        compares=any(place.against_parent for place in drawn),
        shifts=shifts,
        gains=_gains(board, shifts),
    )


def _ordered_places(board: Board, choice: Choice) -> list[Place]:
    """Return all rows of the board that the reader wants, in the order that the reader wants."""
    places = [place for place in board.places if _is_wanted(place.entry, choice)]
    if choice.sort != "score":
        places.sort(key=lambda place: _key(choice.sort, place.entry))
    if choice.reverse:
        places.reverse()
    return places


def _shifts(board: Board, usual: Board) -> dict[int, int]:
    """Return by how many places each participant stands higher than usual, by its team's number."""
    before = {team: number for number, team in enumerate(_participants(usual))}
    after = {team: number for number, team in enumerate(_participants(board))}
    return {team: before[team] - number for team, number in after.items() if team in before}


def _participants(board: Board) -> list[int]:
    return [place.entry.team_id for place in board.places if place.entry.kind == PARTICIPANT]


def _gains(board: Board, shifts: Mapping[int, int]) -> tuple[Gain, ...]:
    names = {place.entry.team_id: place.entry.team for place in board.places}
    most = sorted((team for team, shift in shifts.items() if shift > 0), key=lambda team: -shifts[team])
    return tuple(Gain(names[team], shifts[team]) for team in most[:MOST_GAINS])


def axis_of(figures: Sequence[Figure], width: int = AXIS_PIXELS) -> Axis:
    """Choose an axis on which all intervals have room, with ticks at round numbers."""
    low = min((figure.low for figure in figures), default=0.0)
    high = max((figure.high for figure in figures), default=1.0)
    step = next((step for step in (0.02, 0.05, 0.1, 0.2) if high - low <= 5 * step), 0.25)
    bottom = max(0.0, math.floor(low / step + 1e-9) * step)
    top = max(bottom + step, min(1.0, math.ceil(high / step - 1e-9) * step))
    count = round((top - bottom) / step)
    scores = [bottom + step * number for number in range(count + 1)]
    ticks = tuple((round(width * (score - bottom) / (top - bottom), 1), f"{100 * score:.0f}") for score in scores)
    grid = "".join(f"M{x:g} 0V{ROW_PIXELS}" for x, _ in ticks)
    return Axis(bottom, top, width, ticks, grid)


def plot(places: Sequence[Place], width: int = 720, height: int = 300) -> Plot | None:
    """Draw score against tokens, which unlike seconds are no noise; None where all cost the same."""
    if len({place.entry.tokens for place in places}) < 2:
        return None
    front = pareto_front(places, lambda entry: entry.tokens)
    low, high = _round_range([place.score for place in places])
    costs = [place.entry.tokens for place in places]
    room = 0.06 * (max(costs) - min(costs))
    least, most = max(0.0, min(costs) - room), max(costs) + room
    left, right, top, bottom = 44, width - 12, 12, height - 34

    def x(tokens: float) -> float:
        return round(left + (right - left) * (tokens - least) / (most - least), 1)

    def y(score: float) -> float:
        return round(bottom - (bottom - top) * (score - low) / (high - low), 1)

    on_front = {place.entry.submission_id for place in front}
    labels = _labels([(place, x(place.entry.tokens), y(place.score.value)) for place in front], width)
    dots = []
    for place in places:
        number = place.entry.submission_id
        name, anchor = labels.get(number, ("", "start"))
        dots.append(Dot(x(place.entry.tokens), y(place.score.value), place, number in on_front, name, anchor))
    steps = [(x(place.entry.tokens), y(place.score.value)) for place in front]
    line = f"M{steps[0][0]} {bottom}V{steps[0][1]}" + "".join(f"H{px}V{py}" for px, py in steps[1:]) + f"H{right}"
    return Plot(
        width,
        height,
        tuple(dots),
        line,
        tuple((x(at), f"{at:,.0f}") for at in _round_ticks(least, most)),
        tuple((y(at), f"{100 * at:.0f}") for at in _round_ticks(low, high)),
    )


def _labels(front: Sequence[tuple[Place, float, float]], width: int) -> dict[int, tuple[str, str]]:
    """Return the names to write beside dots, with the end at which each is anchored, by the submission's number.

    The best come first, and a name that would run into an earlier one, or over another dot of the line, is left out.
    """
    labels: dict[int, tuple[str, str]] = {}
    taken: list[tuple[float, float, float]] = []
    for place, x, y in reversed(front):
        name = _short(place.entry.team)
        length = LETTER_PIXELS * len(name)
        is_near_the_end = x + length > width
        anchor = "end" if is_near_the_end else "start"
        left = x - length if is_near_the_end else x
        right = left + length
        label = (left, right, y)
        is_hidden = any(_overlap(label, other) for other in taken)
        is_over_a_dot = any(_covers(label, dot_x, dot_y) for _, dot_x, dot_y in front if dot_x != x)
        if not is_hidden and not is_over_a_dot and len(labels) < NAMED_DOTS:
            taken.append(label)
            labels[place.entry.submission_id] = (name, anchor)
    return labels


def _overlap(one: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    """Whether two names run into each other, each by its left and right end and its height."""
    if abs(one[2] - other[2]) > LINE_PIXELS:
        return False
    return one[0] <= other[1] and other[0] <= one[1]


def _covers(label: tuple[float, float, float], x: float, y: float) -> bool:
    """Whether a name, which stands above its own dot, lies over another."""
    left, right, height = label
    return left <= x <= right and height - LINE_PIXELS - 5 <= y <= height


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"


def _is_wanted(entry: Entry, choice: Choice) -> bool:
    if choice.kind and entry.kind != choice.kind:
        return False
    return choice.find.casefold() in entry.team.casefold()


def _key(sort: str, entry: Entry) -> float | str:
    if sort.startswith("task."):
        figure = entry.tasks.get(sort.removeprefix("task."))
        return -figure.value if figure else 1.0
    return ORDERS[sort](entry)


def _weight(text: str | None) -> float:
    try:
        weight = float(text or 0)
    except ValueError:
        return 0.0
    return round(min(weight, 1000.0), 2) if weight > 0 else 0.0  # NaN is not above zero


def _round_ticks(least: float, most: float) -> list[float]:
    """Return two to six round numbers within a stretch."""
    power = 10.0 ** math.floor(math.log10(most - least))
    step = next(unit * power for unit in (0.2, 0.5, 1.0, 2.0) if (most - least) / (unit * power) <= 5)
    first = math.ceil(least / step)
    return [round(step * number, 10) for number in range(first, math.floor(most / step) + 1)]


def _round_range(scores: Sequence[Figure]) -> tuple[float, float]:
    values = [score.value for score in scores]
    low, high = min(values), max(values)
    room = max(0.1 * (high - low), 0.02)
    return max(0.0, low - room), min(1.0, high + room)


def _written(value: str | int | bool) -> str:
    """Write a value as an address has it: a boolean is 0 or 1."""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _goes_without_saying(name: str, value: str) -> bool:
    return value in ("", "0") or (name, value) == ("page", "1")
