"""The board as a page: what the reader chose (sorting, filters, weights), the rows to show, the plot of costs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from cuvee.competition.board import Board, Entry, Place, find_ranks, pareto_front
from cuvee.report import Figure

ROWS_PER_PAGE = 100
MOST_PAGES = 10_000
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


@dataclass(frozen=True)
class Choice:
    """What the reader chose, from the page's address. Anything that is not understood is left at its default."""

    phase: str
    sort: str = "score"
    reverse: bool = False
    kind: str = ""
    find: str = ""
    weights: Mapping[str, float] | None = None
    page: int = 1

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
        pairs = [(name, str(int(value)) if isinstance(value, bool) else str(value)) for name, value in chosen.items()]
        pairs += [(f"{WEIGHT}{task}", f"{weight:g}") for task, weight in (self.weights or {}).items()]
        return "/?" + urlencode([(n, v) for n, v in pairs if v not in ("", "0") and (n, v) != ("page", "1")])

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
class Dot:
    """One entry in the plot, in pixels."""

    x: float
    y: float
    place: Place
    on_front: bool


@dataclass(frozen=True)
class Plot:
    """Score against seconds: dots, the line of the best for their cost, ticks as (pixels, text)."""

    width: int
    height: int
    dots: tuple[Dot, ...]
    line: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Shown:
    """What the page shows: some rows of the board with their place in it, and the plot of all."""

    rows: tuple[tuple[int, Place], ...]
    found: int
    pages: int
    what_if: bool
    weights: Mapping[str, float]
    plot: Plot | None
    scale: float


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
        page=_page_number(query.get("page", "1")),
    )


def _one_of(known: Sequence[str], written: str, otherwise: str) -> str:
    return written if written in known else otherwise


def _page_number(written: str) -> int:
    """Read the number of a page; the first for what is none, the last that there may be for one too large."""
    if not (written.isascii() and written.isdigit()):
        return 1
    digits = written.lstrip("0")
    if len(digits) > len(str(MOST_PAGES)):  # it may be too long to be read as a number
        return MOST_PAGES
    return min(int(digits or "1"), MOST_PAGES)


def arranged(board: Board, choice: Choice, *, what_if: bool = False, rows_per_page: int = ROWS_PER_PAGE) -> Shown:
    """Choose and order the rows to show."""
    rows = [(number, place) for number, place in enumerate(board.places, start=1) if _is_wanted(place.entry, choice)]
    if choice.sort != "score":
        rows.sort(key=lambda row: _key(choice.sort, row[1].entry))
    if choice.reverse:
        rows.reverse()
    first = (choice.page - 1) * rows_per_page
    shown = tuple(rows[first : first + rows_per_page])
    find_ranks([place for _, place in shown])
    highest = max((place.score.high for place in board.places), default=1.0)
    return Shown(
        rows=shown,
        found=len(rows),
        pages=max(1, -(-len(rows) // rows_per_page)),
        what_if=what_if,
        weights=board.weights,
        plot=plot([place for _, place in rows][:PLOTTED]),
        scale=min(1.0, -(-highest * 10 // 1) / 10) or 0.1,
    )


def plot(places: Sequence[Place], width: int = 640, height: int = 260) -> Plot | None:
    """Draw score against cost; None where there is too little to compare."""
    if len(places) < 2:
        return None
    front = pareto_front(places, lambda entry: entry.seconds)
    low, high = _round_range([place.score for place in places])
    most = max(place.entry.seconds for place in places) * 1.08 or 1.0
    left, right, top, bottom = 44, width - 12, 12, height - 34

    def x(seconds: float) -> float:
        return round(left + (right - left) * seconds / most, 1)

    def y(score: float) -> float:
        return round(bottom - (bottom - top) * (score - low) / (high - low), 1)

    on_front = {place.entry.submission_id for place in front}
    dots = tuple(Dot(x(p.entry.seconds), y(p.score.value), p, p.entry.submission_id in on_front) for p in places)
    steps = [(x(place.entry.seconds), y(place.score.value)) for place in front]
    line = f"M{steps[0][0]} {bottom}V{steps[0][1]}" + "".join(f"H{px}V{py}" for px, py in steps[1:]) + f"H{right}"
    return Plot(
        width,
        height,
        dots,
        line,
        tuple((x(at), f"{at:g}") for at in _round_ticks(most)),
        tuple(
            (y(low + (high - low) * share / 4), f"{100 * (low + (high - low) * share / 4):.0f}") for share in range(5)
        ),
    )


def bar(figure: Figure, scale: float, width: int = 160) -> dict[str, float]:
    """Place a score and its interval on a bar of `width` pixels that ends at `scale`."""
    return {
        name: round(width * min(max(value / scale, 0.0), 1.0), 1)
        for name, value in (("value", figure.value), ("low", figure.low), ("high", figure.high))
    }


def _is_wanted(entry: Entry, choice: Choice) -> bool:
    return (not choice.kind or entry.kind == choice.kind) and choice.find.casefold() in entry.team.casefold()


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


def _round_ticks(most: float) -> list[float]:
    """Return three to six round numbers from zero on."""
    power = 10.0 ** math.floor(math.log10(most))
    step = next(unit * power for unit in (0.2, 0.5, 1.0, 2.0) if most / (unit * power) <= 6)
    return [round(step * number, 10) for number in range(int(most / step) + 1)]


def _round_range(scores: Sequence[Figure]) -> tuple[float, float]:
    low, high = min(score.value for score in scores), max(score.value for score in scores)
    room = max(0.1 * (high - low), 0.02)
    return max(0.0, low - room), min(1.0, high + room)
