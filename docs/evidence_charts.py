"""The figures of the page of evidence: ladder, skills, what is forgotten, what texts bring, what a blend costs."""

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import chain

from benchmark_chart import STYLE
from evidence_page import TEXTS, Evidence, Row, read_evidence

from cuvee.evaluation.statistics import mean

WIDTH, LEFT, RIGHT, TOP, ROW_HEIGHT, BOTTOM = 560, 230, 60, 34, 22, 40
MOST_SHOWN = 80
"""Points at which the axes of macro scores end."""

COLUMN, SPACE = 92, 14
"""Width of a skill's column in the figure of trade-offs, and the space after it."""

PLOT_HEIGHT, PLOT_LEFT, PLOT_TOP = 240, 46, 20
SECONDS, TIMES = (1, 3, 10, 30, 100, 300, 1000), (1, 1.5, 2, 3)
"""Ticks of the axes of seconds and of perplexity."""

SCATTER_RIGHT, NAMES_LEFT, NAME_HEIGHT = 320, 346, 15
"""Where these axes end, where the names beside them begin, and the least distance of two names."""

TEXTS_RIGHT = WIDTH - 130
"""Where the axis of texts ends."""

LEAST_SCORE, STEP = 20, 10
"""Points at which the axis of the learning curve begins, and between its lines."""


def evidence_charts() -> dict[str, str]:
    """Return the figures by their names under docs/."""
    evidence = read_evidence()
    return {
        "images/evidence.svg": ladder(evidence),
        "images/evidence-skills.svg": skills(evidence),
        "images/evidence-texts.svg": texts_curve(evidence),
        "images/evidence-forgotten.svg": forgetting(evidence),
        "images/evidence-cost.svg": cost(evidence),
    }


def ladder(evidence: Evidence) -> str:
    """Draw each model's macro score with its interval, the best first."""
    rows = evidence.rows
    height = TOP + ROW_HEIGHT * len(rows) + BOTTOM
    parts = list(_axis(height, range(0, MOST_SHOWN + 1, 20), "mean of the five skills' scores, in points"))
    for number, row in enumerate(rows):
        parts += _ladder_row(row, TOP + ROW_HEIGHT * number)
    return _figure("Macro score of each model on private items, with 95 % intervals", WIDTH, height, parts)


def _axis(height: int, ticks: Sequence[int], label: str) -> Iterator[str]:
    bottom = height - BOTTOM
    for tick in ticks:
        yield f'<line class="line" x1="{_x(tick)}" x2="{_x(tick)}" y1="{TOP - 14}" y2="{bottom}"/>'
        yield f'<text class="quiet" x="{_x(tick)}" y="{bottom + 16}" text-anchor="middle">{tick}</text>'
    yield f'<text class="quiet" x="{_x(MOST_SHOWN / 2)}" y="{height - 6}" text-anchor="middle">{label}</text>'


def _ladder_row(row: Row, y: int) -> list[str]:
    macro = row.macro
    low, value, high = (_x(100 * each) for each in (macro.low, macro.value, macro.high))
    return [
        f'<text x="{LEFT - 14}" y="{y + 4.5}" text-anchor="end">{escape(row.name)}</text>',
        f'<line class="gap" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>',
        f'<circle class="{_mark(row)}" cx="{value}" cy="{y}" r="4.5"/>',
        f'<text x="{WIDTH}" y="{y + 4.5}" text-anchor="end">{100 * macro.value:.1f}</text>',
    ]


def _mark(row: Row) -> str:
    """Return how a model is drawn: full where it is a blend."""
    return "cuvee" if row.kind in ("blend", "draw") else "mergekit"


def _x(points: float) -> float:
    return round(LEFT + points / MOST_SHOWN * (WIDTH - LEFT - RIGHT), 1)


def skills(evidence: Evidence) -> str:
    """Draw a column for each skill, from zero on: each model's score, and a line where the best expert's is."""
    names = list(evidence.base.scores)
    width = LEFT + (COLUMN + SPACE) * len(names)
    height = TOP + ROW_HEIGHT * len(evidence.rows) + 8
    parts = []
    for number, row in enumerate(evidence.rows):
        y = TOP + ROW_HEIGHT * number
        parts.append(f'<text x="{LEFT - 14}" y="{y + 4.5}" text-anchor="end">{escape(row.name)}</text>')
    for number, name in enumerate(names):
        parts += _column(evidence, name, LEFT + (COLUMN + SPACE) * number, height)
    return _figure("Each model's score on each skill, beside that of the skill's expert", width, height, parts)


def _column(evidence: Evidence, skill: str, left: int, height: int) -> Iterator[str]:
    expert = max(mean(row.scores[skill]).value for row in evidence.of_kind("expert"))
    scale = _across(left, max(mean(row.scores[skill]).value for row in evidence.rows))
    yield f'<text x="{left}" y="{TOP - 18}">{skill}</text>'
    yield f'<line class="line" x1="{left}" x2="{left}" y1="{TOP - 10}" y2="{height}"/>'
    yield f'<line class="floor" x1="{scale(expert)}" x2="{scale(expert)}" y1="{TOP - 10}" y2="{height}"/>'
    for number, row in enumerate(evidence.rows):
        y = TOP + ROW_HEIGHT * number
        x = scale(mean(row.scores[skill]).value)
        yield f'<line class="gap" x1="{left}" x2="{x}" y1="{y}" y2="{y}"/>'
        yield f'<circle class="{_mark(row)}" cx="{x}" cy="{y}" r="4"/>'


def _across(left: int, most: float) -> Callable[[float], float]:
    """Return where a score lies in a column that ends at the highest one."""
    return lambda score: round(left + score / most * (COLUMN - 6), 1)


def texts_curve(evidence: Evidence) -> str:
    """Draw the macro score of each repair over the number of texts, and the other draws of texts as points alone.

    Lines across are the blend without a repair and the model that was trained on everything.
    """
    parts = list(_grid(evidence))
    for row in (evidence.plain, *evidence.of_kind("multitask")):
        y = _height(row.macro.value)
        parts.append(f'<line class="floor" x1="{PLOT_LEFT}" x2="{TEXTS_RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="quiet" x="{TEXTS_RIGHT + 8}" y="{y + 4.5}">{escape(row.name)}</text>')
    for place, (method, repairs) in enumerate(evidence.repairs.items()):
        points = [(_of_texts(texts) + 6 * place, row) for texts, row in repairs.items()]
        line = " ".join(f"{x},{_height(row.macro.value)}" for x, row in points)
        parts.append(f'<polyline class="gap" fill="none" points="{line}"/>')
        for x, row in points:
            parts += _with_interval(x, row, "cuvee" if place == 0 else "mergekit")
        x, row = points[-1]
        parts.append(f'<text x="{x + 12}" y="{_height(row.macro.value) + 14}">{method}</text>')
    for number, row in enumerate(evidence.draws, 1):
        parts += _with_interval(_of_texts(TEXTS[0]) - 7 * number, row, "cuvee")
    return _figure("Macro score of a repair by the number of texts of each expert", WIDTH, PLOT_HEIGHT + 60, parts)


def _lines(end: float) -> Iterator[str]:
    """Give the lines of the axis of scores, up to `end`."""
    for tick in range(LEAST_SCORE, MOST_SHOWN - STEP + 1, STEP):
        y = _height(tick / 100)
        yield f'<line class="line" x1="{PLOT_LEFT}" x2="{end}" y1="{y}" y2="{y}"/>'
        yield f'<text class="quiet" x="{PLOT_LEFT - 10}" y="{y + 4.5}" text-anchor="end">{tick}</text>'


def _grid(evidence: Evidence) -> Iterator[str]:
    yield from _lines(TEXTS_RIGHT)
    for texts in sorted(set(chain.from_iterable(evidence.repairs.values()))):
        label = f'x="{_of_texts(texts)}" y="{PLOT_HEIGHT + 20}" text-anchor="middle">{texts}'
        yield f'<text class="quiet" {label}</text>'
    yield _below("macro score in points, by texts of each expert")


def _below(label: str) -> str:
    """Return the line under a plot that says what its axes are."""
    return f'<text class="quiet" x="{PLOT_LEFT}" y="{PLOT_HEIGHT + 44}">{label}</text>'


def _with_interval(x: float, row: Row, mark: str) -> Iterator[str]:
    macro = row.macro
    yield f'<line class="gap" x1="{x}" x2="{x}" y1="{_height(macro.low)}" y2="{_height(macro.high)}"/>'
    yield f'<circle class="{mark}" cx="{x}" cy="{_height(macro.value)}" r="4.5"/>'


def _of_texts(texts: int) -> float:
    """Return where a number of texts lies, on an axis on which equal factors are equal distances."""
    share = math.log(texts / TEXTS[0]) / math.log(TEXTS[-1] / TEXTS[0])
    return round(PLOT_LEFT + 50 + share * (WIDTH - PLOT_LEFT - 230), 1)


def _height(score: float) -> float:
    share = (100 * score - LEAST_SCORE) / (MOST_SHOWN - STEP - LEAST_SCORE)
    return round(PLOT_TOP + (1 - share) * (PLOT_HEIGHT - PLOT_TOP), 1)


def cost(evidence: Evidence) -> str:
    """Draw each blend's macro score over the processor seconds until it was merged and loaded."""
    placed = [(row.seconds, row) for row in evidence.of_kind("blend") if row.seconds is not None]
    label = "macro score in points, by processor seconds to merge and load"
    title = "Macro score of each blend by the processor seconds that it takes to make"
    return _figure(title, WIDTH, PLOT_HEIGHT + 60, [*_scattered(placed, SECONDS), _below(label)])


def forgetting(evidence: Evidence) -> str:
    """Draw each blend's macro score, and that of the model trained on everything, over its perplexity."""
    placed = [(evidence.times_base(row)[0], row) for row in evidence.of_kind("blend", "multitask")]
    label = "macro score in points, by the perplexity of general text over the base's"
    title = "Macro score of each blend by what it forgot of general text"
    return _figure(title, WIDTH, PLOT_HEIGHT + 60, [*_scattered(placed, TIMES), _below(label)])


def _scattered(placed: Sequence[tuple[float, Row]], ticks: Sequence[float]) -> Iterator[str]:
    """Give points over a logarithmic axis, its ticks, and beside it each point's name, at the end of a line to it."""
    yield from _lines(SCATTER_RIGHT)
    for tick in ticks:
        label = f'x="{_along(tick, ticks)}" y="{PLOT_HEIGHT + 20}" text-anchor="middle">{tick:g}'
        yield f'<text class="quiet" {label}</text>'
    points = [(_along(value, ticks), _height(row.macro.value)) for value, row in placed]
    names = _apart([y for _, y in points], PLOT_HEIGHT + 22)
    for (x, y), name_y in zip(points, names, strict=True):
        yield f'<line class="line" x1="{x}" x2="{NAMES_LEFT - 4}" y1="{y}" y2="{name_y}"/>'
    for (x, y), name_y, (_, row) in zip(points, names, placed, strict=True):
        yield f'<circle class="{_mark(row)}" cx="{x}" cy="{y}" r="4.5"/>'
        yield f'<text x="{NAMES_LEFT}" y="{name_y + 4.5}">{escape(row.name)}</text>'


def _apart(heights: Sequence[float], lowest: float) -> list[float]:
    """Return heights, which grow, moved as little as it takes to keep the distance of names, none below `lowest`."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + NAME_HEIGHT) if moved else height)
    for place in reversed(range(len(moved))):
        moved[place] = min(moved[place], lowest - NAME_HEIGHT * (len(moved) - 1 - place))
    return moved


def _along(value: float, ticks: Sequence[float]) -> float:
    """Return where a value lies, on an axis on which equal factors are equal distances."""
    share = math.log(max(value, ticks[0]) / ticks[0]) / math.log(ticks[-1] / ticks[0])
    return round(PLOT_LEFT + 20 + share * (SCATTER_RIGHT - PLOT_LEFT - 20), 1)


def _figure(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{title}</title>",
        f"<style>{STYLE}</style>",
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"
