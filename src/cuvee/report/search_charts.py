"""The drawings of a search's page, in pixels: progress, the best recipes side by side, depth curves, the front."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cuvee.amounts import points
from cuvee.search.front import Front
from cuvee.search.report import Candidate, Curve, Dimension, SearchReport

TOP = 20
"""Candidates that are drawn side by side."""

PROGRESS_WIDTH, PROGRESS_HEIGHT = 900, 300
AXIS_HEIGHT, AXIS_TOP = 220, 92
CURVE_WIDTH, CURVE_HEIGHT = 200, 130
FRONT_SIZE = 340
MARGIN = 46

Dot = tuple[float, float, str]
"""Where a candidate is drawn, and what it says."""

Tick = tuple[float, str]


@dataclass(frozen=True)
class Axis:
    """A range of values over a range of pixels. What lies outside is drawn at the edge."""

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
class Progress:
    """Scores over the tokens spent. `best` is the line of the best so far; ticks are (pixel, text)."""

    best: str
    measured: tuple[Dot, ...]
    dropped: tuple[Dot, ...]
    selected: tuple[Dot, ...]
    anchor: float | None
    levels: tuple[Tick, ...]
    tokens: tuple[Tick, ...]
    width: int = PROGRESS_WIDTH
    height: int = PROGRESS_HEIGHT


@dataclass(frozen=True)
class Upright:
    """One axis of the parallel coordinates: its place, its name, and its ticks from the top."""

    x: float
    name: str
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Line:
    """One candidate through all axes, in pieces where it lacks a dimension."""

    pieces: tuple[str, ...]
    note: str
    highlighted: bool


@dataclass(frozen=True)
class Parallel:
    """The best candidates, a line each; the `highlighted` one comes last, so that it is drawn on top."""

    axes: tuple[Upright, ...]
    lines: tuple[Line, ...]
    highlighted: str
    width: float
    top: int = AXIS_TOP
    bottom: int = AXIS_TOP + AXIS_HEIGHT


@dataclass(frozen=True)
class Panel:
    """The depth curves of one model: (role's number, points) for each role."""

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
    """Draw what was measured in the order of the candidates' numbers; None before the first was."""
    spent, tokens = [], 0
    for candidate in report.candidates:
        tokens += candidate.tokens
        spent.append((tokens, candidate))
    measured = [(at, each, each.value) for at, each in spent if each.state == "measured" and each.value is not None]
    dropped = [(at, each, each.value) for at, each in spent if each.state == "dropped" and each.value is not None]
    selected = [(at, each, each.select) for at, each in spent if each.select is not None]
    if not measured:
        return None
    x = Axis(0.0, float(max(tokens, 1)), MARGIN, PROGRESS_WIDTH - 14)
    anchors = [value for _, each, value in measured if each.anchor]
    tried = [value for _, each, value in (*measured, *selected) if not each.anchor]
    y = _upwards([*tried, *sorted(anchors)[-1:]])
    return Progress(
        best=_steps([(x.at(at), value) for at, _, value in measured], y, x.end),
        measured=tuple(_dot(x.at(at), y.at(value), each, value) for at, each, value in measured),
        dropped=tuple(_dot(x.at(at), y.at(value), each, value) for at, each, value in dropped),
        selected=tuple(
            (x.at(at), y.at(value), f"{each.name}, on the select items: {points(value)}")
            for at, each, value in selected
        ),
        anchor=y.at(max(anchors)) if anchors else None,
        levels=tuple((y.at(tick), points(tick)) for tick in round_ticks(y.low, y.high, 5)),
        tokens=tuple((x.at(tick), amount(tick)) for tick in round_ticks(0.0, x.high, 5)),
    )


def parallel(report: SearchReport) -> Parallel | None:
    """Draw the best measured candidates through every dimension, and their scores last; None without dimensions."""
    ranked = [each for each in report.candidates if each.state == "measured" and each.parameters]
    best = sorted(ranked, key=lambda each: -(each.value or 0.0))
    if not best or not report.dimensions:
        return None
    picked = report.choice.picked if report.choice else best[0].name
    best = [each for place, each in enumerate(best) if place < TOP or each.name == picked]
    dimensions = list(report.dimensions)
    methods = tuple(dict.fromkeys(each.method for each in ranked))
    if len(methods) > 1:
        dimensions.insert(0, Dimension("method", choices=methods))
    step = min(max(900 / (len(dimensions) + 1), 74), 150)
    places = [40 + number * step for number in range(len(dimensions) + 1)]
    values = [each.value or 0.0 for each in best]
    score = Axis(min(values), max(values), AXIS_TOP + AXIS_HEIGHT, AXIS_TOP)
    axes = [_upright(dimension, x) for dimension, x in zip(dimensions, places, strict=False)]
    axes.append(Upright(places[-1], "score", _ends(score)))
    lines = [_line(each, dimensions, places, score, each.name == picked) for each in reversed(best)]
    lines.sort(key=lambda line: line.highlighted)
    return Parallel(tuple(axes), tuple(lines), picked, places[-1] + 90)


def panels(curves: Sequence[Curve]) -> tuple[Panel, ...]:
    """Draw one panel a model, all on one scale from zero or below."""
    if not curves:
        return ()
    values = [value for curve in curves for value in curve.values]
    low, high = min(0.0, *values), max(0.1, *values)
    y = Axis(low, high, CURVE_HEIGHT - 22, 8)
    levels = tuple((y.at(tick), f"{tick:g}") for tick in round_ticks(low, high, 4))
    roles = roles_of(curves)
    made = []
    for model in dict.fromkeys(curve.model for curve in curves):
        own = [curve for curve in curves if curve.model == model]
        lines = tuple((roles.index(curve.role), _through(curve.values, y)) for curve in own)
        made.append(Panel(model, lines, levels))
    return tuple(made)


def roles_of(curves: Sequence[Curve]) -> list[str]:
    """List the roles in the order of their first curve."""
    return list(dict.fromkeys(curve.role for curve in curves))


def plane(front: Front) -> Plane | None:
    """Draw the first two objectives; None where there is one only."""
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
        tuple((x.at(tick), points(tick)) for tick in round_ticks(x.low, x.high, 4)),
        tuple((y.at(tick), points(tick)) for tick in round_ticks(y.low, y.high, 4)),
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


def _upwards(values: Sequence[float]) -> Axis:
    """Return an axis for what was measured, with room below for some of what was dropped."""
    low, high = _room(values)
    return Axis(max(0.0, low - 0.4 * (high - low)), high, PROGRESS_HEIGHT - 44, 12)


def _room(values: Sequence[float]) -> tuple[float, float]:
    """Return a range with a little room on both sides."""
    low, high = min(values), max(values)
    room = max(0.08 * (high - low), 0.01)
    return max(0.0, low - room), min(1.0, high + room)


def _dot(x: float, y: float, candidate: Candidate, value: float) -> Dot:
    state = "" if candidate.state == "measured" else f", dropped after {candidate.items} items"
    return x, y, f"{candidate.name}: {points(value)}{state}"


def _selected(candidate: Candidate, value: float) -> str:
    return f"{candidate.name}, on the select items: {points(value)}"


def _steps(measured: Sequence[tuple[float, float]], y: Axis, end: float) -> str:
    """Write the line of the best so far: to the right until a better one comes, then up."""
    first, best = measured[0]
    path = [f"M{first} {y.at(best)}"]
    for x, value in measured[1:]:
        if value > best:
            best = value
            path.append(f"H{x}V{y.at(best)}")
    return "".join([*path, f"H{end}"])


def _upright(dimension: Dimension, x: float) -> Upright:
    if dimension.choices:
        return Upright(x, dimension.name, tuple((_choice_at(dimension, each), each) for each in dimension.choices))
    low, high = dimension.range
    axis = Axis(low, high, AXIS_TOP + AXIS_HEIGHT, AXIS_TOP)
    return Upright(x, dimension.name, ((axis.at(low), f"{low:g}"), (axis.at(high), f"{high:g}")))


def _ends(axis: Axis) -> tuple[Tick, ...]:
    return ((axis.at(axis.low), points(axis.low)), (axis.at(axis.high), points(axis.high)))


def _line(
    candidate: Candidate, dimensions: Sequence[Dimension], places: Sequence[float], score: Axis, highlighted: bool
) -> Line:
    pieces: list[list[str]] = [[]]
    for dimension, x in zip(dimensions, places, strict=False):
        y = _height(candidate, dimension)
        if y is None:
            pieces.append([])
        else:
            pieces[-1].append(f"{x},{y}")
    pieces[-1].append(f"{places[-1]},{score.at(candidate.value or 0.0)}")
    return Line(
        tuple(" ".join(piece) for piece in pieces if len(piece) > 1),
        f"{candidate.name}: {points(candidate.value or 0.0)}",
        highlighted,
    )


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
