"""The drawings of a search's page, in pixels: progress, the best recipes side by side, depth curves, the front."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from cuvee.amounts import points
from cuvee.search.front import Front
from cuvee.search.report import Candidate, Curve, Dimension, SearchReport, State

TOP = 20
"""Candidates that are drawn side by side."""

PROGRESS_WIDTH, PROGRESS_HEIGHT, PROGRESS_FLOOR = 900, 320, 256
AXIS_HEIGHT, AXIS_TOP = 220, 92
CURVE_WIDTH, CURVE_HEIGHT = 200, 130
FRONT_SIZE = 340
MARGIN = 46
UNDER = 12
"""Pixels under the floor at which candidates off the scale are drawn."""

Dot = tuple[float, float, str]
"""Where a candidate is drawn, and what it says."""

Tick = tuple[float, str]


@dataclass(frozen=True)
class Axis:
    """A range of values over a range of pixels. Values outside are drawn at the edge."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        if self.high == self.low:
            return round((self.start + self.end) / 2, 1)
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 1)


@dataclass(frozen=True)
class Mark:
    """A score of a candidate, and the tokens that were spent until it ended."""

    tokens: int
    candidate: Candidate
    value: float
    note: str


@dataclass(frozen=True)
class Progress:
    """Scores over the tokens spent. `best` is the line of the best so far; dots off the scale are under the floor."""

    best: str
    measured: tuple[Dot, ...]
    dropped: tuple[Dot, ...]
    selected: tuple[Dot, ...]
    anchor: float | None
    levels: tuple[Tick, ...]
    tokens: tuple[Tick, ...]
    width: int = PROGRESS_WIDTH
    floor: int = PROGRESS_FLOOR
    height: int = PROGRESS_HEIGHT


@dataclass(frozen=True)
class Upright:
    """An axis of the parallel coordinates: its place, its name, and its ticks from the top."""

    x: float
    name: str
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Line:
    """A candidate through all axes, in pieces where it lacks a dimension."""

    pieces: tuple[str, ...]
    note: str
    highlighted: bool


@dataclass(frozen=True)
class Parallel:
    """The best candidates, a line each; the `highlighted` line comes last, so that it is drawn on top."""

    axes: tuple[Upright, ...]
    lines: tuple[Line, ...]
    highlighted: str
    width: float
    top: int = AXIS_TOP
    bottom: int = AXIS_TOP + AXIS_HEIGHT


@dataclass(frozen=True)
class Panel:
    """The depth curves of a model: (role's number, points) for each role."""

    model: str
    lines: tuple[tuple[int, str], ...]
    levels: tuple[Tick, ...]
    width: int = CURVE_WIDTH
    height: int = CURVE_HEIGHT


@dataclass(frozen=True)
class Plane:
    """Two objectives of a front: the outer points, those that may be as good, the edge, and ticks."""

    across: str
    up: str
    outer: tuple[Dot, ...]
    near: tuple[Dot, ...]
    edge: str
    columns: tuple[Tick, ...]
    levels: tuple[Tick, ...]
    size: int = FRONT_SIZE


def progress(report: SearchReport) -> Progress | None:
    """Draw the measured candidates in the order of their numbers; None before the first is measured."""
    measured, dropped = _marks(report, "measured"), _marks(report, "dropped")
    selected = _select_marks(report)
    if not measured:
        return None
    tokens = sum(candidate.tokens for candidate in report.candidates)
    x = Axis(0.0, float(max(tokens, 1)), MARGIN, PROGRESS_WIDTH - 14)
    y = _upwards([*measured, *selected])
    anchor = _best_anchor(measured)
    path = [(x.at(mark.tokens), mark.value) for mark in measured]
    return Progress(
        best=_steps(path, y, x.end),
        measured=_dots(measured, x, y),
        dropped=_dots(dropped, x, y),
        selected=_dots(selected, x, y),
        anchor=None if anchor is None else y.at(anchor),
        levels=_ticks(y, points, 5),
        tokens=_ticks(x, amount, 5),
    )


def _ticks(axis: Axis, label: Callable[[float], str], most: int) -> tuple[tuple[float, str], ...]:
    """Return the places of an axis' ticks and their labels."""
    return tuple((axis.at(tick), label(tick)) for tick in round_ticks(axis.low, axis.high, most))


def parallel(report: SearchReport) -> Parallel | None:
    """Draw the best measured candidates through every dimension, and their scores last; None without dimensions."""
    ranked = _ranked(report)
    if not ranked:
        return None
    picked = report.choice.picked if report.choice else ranked[0].name
    best = ranked[:TOP]
    best += [candidate for candidate in ranked[TOP:] if candidate.name == picked]
    dimensions = _with_method(report.dimensions, ranked)
    step = min(max(900 / (len(dimensions) + 1), 74), 150)
    places = [70 + number * step for number in range(len(dimensions) + 1)]
    scores = [candidate.value or 0.0 for candidate in best]
    score = Axis(min(scores), max(scores), AXIS_TOP + AXIS_HEIGHT, AXIS_TOP)
    axes = [_upright(dimension, x) for dimension, x in zip(dimensions, places, strict=False)]
    axes.append(Upright(places[-1], "score", _ends(score)))
    lines = [_line(candidate, dimensions, places, score, picked) for candidate in reversed(best)]
    lines.sort(key=lambda line: line.highlighted)
    return Parallel(tuple(axes), tuple(lines), picked, places[-1] + 90)


def panels(curves: Sequence[Curve]) -> tuple[Panel, ...]:
    """Draw a panel for each model, all on the same scale from zero or below."""
    if not curves:
        return ()
    values = list(chain.from_iterable(curve.values for curve in curves))
    low, high = min(0.0, *values), max(0.1, *values)
    y = Axis(low, high, CURVE_HEIGHT - 22, 8)
    levels = _ticks(y, "{:g}".format, 4)
    roles = roles_of(curves)
    panels = []
    for model in dict.fromkeys(curve.model for curve in curves):
        own = [curve for curve in curves if curve.model == model]
        lines = tuple((roles.index(curve.role), _through(curve.values, y)) for curve in own)
        panels.append(Panel(model, lines, levels))
    return tuple(panels)


def roles_of(curves: Sequence[Curve]) -> list[str]:
    """List the roles in the order of their first curve."""
    return list(dict.fromkeys(curve.role for curve in curves))


def plane(front: Front) -> Plane | None:
    """Draw the first two objectives; None where there are no two."""
    if len(front.objectives) < 2:
        return None
    across = [point.values[0].value for point in front.points]
    up = [point.values[1].value for point in front.points]
    x = Axis(*_room(across), MARGIN, FRONT_SIZE - 14)
    y = Axis(*_room(up), FRONT_SIZE - 44, 12)
    outer: list[Dot] = []
    near: list[Dot] = []
    for point, first, second in zip(front.points, across, up, strict=True):
        dot = (x.at(first), y.at(second), f"{point.name}: {points(first)} and {points(second)}")
        (outer if point.outer else near).append(dot)
    return Plane(
        front.objectives[0],
        front.objectives[1],
        tuple(outer),
        tuple(near),
        _edge(outer),
        _ticks(x, points, 4),
        _ticks(y, points, 4),
    )


def round_ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """Return at most `most` + 1 round values from `low` to `high`, in steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return (low,)
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return tuple(round(number * step, 12) for number in range(first, last + 1))


def amount(number: float) -> str:
    """Write a count for people: 950, 12k, 3.4M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def _marks(report: SearchReport, state: State) -> list[Mark]:
    """Return the scores of the candidates in a state, each where the tokens spent so far put it."""
    marks, tokens = [], 0
    for candidate in report.candidates:
        tokens += candidate.tokens
        if candidate.state == state and candidate.value is not None:
            marks.append(Mark(tokens, candidate, candidate.value, _told(candidate, candidate.value)))
    return marks


def _select_marks(report: SearchReport) -> list[Mark]:
    """Return the scores of the finalists on the select items, above where their search ended."""
    marks, tokens = [], 0
    for candidate in report.candidates:
        tokens += candidate.tokens
        if candidate.select is not None:
            note = f"{candidate.name}, on the select items: {points(candidate.select)}"
            marks.append(Mark(tokens, candidate, candidate.select, note))
    return marks


def _told(candidate: Candidate, value: float) -> str:
    state = "" if candidate.state == "measured" else f", dropped after {candidate.items} items"
    return f"{candidate.name}: {points(value)}{state}"


def _dots(marks: Sequence[Mark], x: Axis, y: Axis) -> tuple[Dot, ...]:
    return tuple((x.at(mark.tokens), _above_floor(mark.value, y), mark.note) for mark in marks)


def _above_floor(value: float, y: Axis) -> float:
    return y.at(value) if value >= y.low else y.start + UNDER


def _best_anchor(marks: Sequence[Mark]) -> float | None:
    return max((mark.value for mark in marks if mark.candidate.anchor), default=None)


def _ranked(report: SearchReport) -> list[Candidate]:
    """Return the measured candidates that have any of the dimensions, the best first."""
    names = {dimension.name for dimension in report.dimensions}
    measured = [candidate for candidate in report.candidates if candidate.state == "measured"]
    drawn = [candidate for candidate in measured if names & candidate.parameters.keys()]
    return sorted(drawn, key=lambda candidate: -(candidate.value or 0.0))


def _with_method(dimensions: Sequence[Dimension], candidates: Sequence[Candidate]) -> list[Dimension]:
    """Put the method before the other dimensions where there are several."""
    methods = tuple(sorted({candidate.method for candidate in candidates}))
    if len(methods) == 1:
        return list(dimensions)
    return [Dimension("method", choices=methods), *dimensions]


def _upwards(marks: Sequence[Mark]) -> Axis:
    """Return an axis for the measured scores, with room below for some dropped scores. Bad anchors stay outside."""
    values = [mark.value for mark in marks if not mark.candidate.anchor]
    anchor = _best_anchor(marks)
    if anchor is not None:
        values.append(anchor)
    low, high = _room(values)
    return Axis(max(0.0, low - 0.4 * (high - low)), high, PROGRESS_FLOOR, 12)


def _room(values: Sequence[float]) -> tuple[float, float]:
    """Return a range with a little room on both sides."""
    low, high = min(values), max(values)
    room = max(0.08 * (high - low), 0.01)
    return max(0.0, low - room), min(1.0, high + room)


def _steps(measured: Sequence[tuple[float, float]], y: Axis, end: float) -> str:
    """Write the line of the best so far: to the right until a better score comes, then up."""
    first, best = measured[0]
    path = [f"M{first} {_above_floor(best, y)}"]
    for x, value in measured[1:]:
        if value > best:
            best = value
            path.append(f"H{x}V{_above_floor(best, y)}")
    return "".join([*path, f"H{end}"])


def _upright(dimension: Dimension, x: float) -> Upright:
    if dimension.choices:
        choices = tuple((_choice_at(dimension, choice), choice) for choice in dimension.choices)
        return Upright(x, dimension.name, choices)
    low, high = dimension.range
    axis = Axis(low, high, AXIS_TOP + AXIS_HEIGHT, AXIS_TOP)
    return Upright(x, dimension.name, ((axis.at(low), f"{low:g}"), (axis.at(high), f"{high:g}")))


def _ends(axis: Axis) -> tuple[Tick, ...]:
    return ((axis.at(axis.low), points(axis.low)), (axis.at(axis.high), points(axis.high)))


def _line(
    candidate: Candidate, dimensions: Sequence[Dimension], places: Sequence[float], score: Axis, picked: str
) -> Line:
    value = candidate.value or 0.0
    pieces: list[list[str]] = [[]]
    for dimension, x in zip(dimensions, places, strict=False):
        y = _height(candidate, dimension)
        if y is None:
            pieces.append([])
        else:
            pieces[-1].append(f"{x},{y}")
    pieces[-1].append(f"{places[-1]},{score.at(value)}")
    drawn = [" ".join(piece) for piece in pieces if len(piece) > 1]
    return Line(tuple(drawn), f"{candidate.name}: {points(value)}", candidate.name == picked)


def _height(candidate: Candidate, dimension: Dimension) -> float | None:
    value = candidate.method if dimension.name == "method" else candidate.parameters.get(dimension.name)
    if value is None:
        return None
    if dimension.choices:
        return _choice_at(dimension, str(value)) if str(value) in dimension.choices else None
    low, high = dimension.range
    if dimension.logarithmic:
        low, high, value = math.log(low), math.log(high), math.log(float(value))
    return Axis(low, high, AXIS_TOP + AXIS_HEIGHT, AXIS_TOP).at(float(value))


def _choice_at(dimension: Dimension, choice: str) -> float:
    axis = Axis(0, len(dimension.choices) - 1, AXIS_TOP + AXIS_HEIGHT, AXIS_TOP)
    return axis.at(dimension.choices.index(choice))


def _through(values: Sequence[float], y: Axis) -> str:
    """Write a curve's points from the left edge to the right; a single value is a level line."""
    line = values if len(values) > 1 else (values[0], values[0])
    x = Axis(0, len(line) - 1, MARGIN - 12, CURVE_WIDTH - 8)
    return " ".join(f"{x.at(number)},{y.at(value)}" for number, value in enumerate(line))


def _edge(dots: Sequence[Dot]) -> str:
    """Write the stairs under which everything is worse than a point of the front in both objectives."""
    outer: list[tuple[float, float]] = []
    for x, y, _ in sorted(dots, key=lambda dot: (-dot[0], dot[1])):
        if not outer or y < outer[-1][1]:
            outer.append((x, y))
    first, height = outer[0]
    path = [f"M{first} {FRONT_SIZE - 44}V{height}"]
    for x, y in outer[1:]:
        path.append(f"H{x}V{y}")
    return "".join([*path, f"H{MARGIN}"])
