"""A comparison of task vectors as an HTML file: totals as tables, and heat maps of layers and roles for each figure.

Complete without scripts and without a network; the stylesheet is named by its hash, as on the page of a leaderboard.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cuvee.amounts import MINUS
from cuvee.comparison import Comparison, Figures, Group
from cuvee.report.heat import MIDDLE, heat_css, side_step, sides_css
from cuvee.report.layer_grid import Grid, layer_grid
from cuvee.report.template import render, stylesheet

_SCALE = tuple(f"h{step}" for step in range(10))
_SIDES = tuple(f"d{step}" for step in range(2 * MIDDLE + 1))
"""Classes of colours: of a figure from 0 on, and of one with two sides."""

Measure = Callable[[Figures, int], float | None]
Text = Callable[[float | None], str]


@dataclass(frozen=True)
class Shade:
    """A cell: the class of its colour, None where the figure is undefined; its note; and if it is below the middle."""

    colour: str | None
    note: str
    is_below: bool = False


@dataclass(frozen=True)
class HeatMap:
    """A figure of a model or pair, a shade for each cell of the grid."""

    title: str
    shades: tuple[Shade, ...]


@dataclass(frozen=True)
class Section:
    """All maps of a figure, on the same scale from `low` to `high`, by `colours`.

    Where a figure has two sides, what parts them is in the middle of the colours, whatever the figures are.
    """

    key: str
    title: str
    note: str
    low: str
    high: str
    colours: tuple[str, ...]
    maps: tuple[HeatMap, ...]


def render_comparison(found: Comparison) -> str:
    """Render the page. The same comparison gives the same text. Raises MissingExtra without jinja2."""
    grid = layer_grid(found)
    values = {
        "found": found,
        "pairs": _pairs(found),
        "grid": grid,
        "sections": sections(found, grid),
        "style": stylesheet("comparison.css", heat_css(), sides_css()),
    }
    return render("comparison.html.j2", values, {"percent": percent, "cosine": cosine})


def sections(found: Comparison, grid: Grid) -> tuple[Section, ...]:
    """Return the heat maps, figure by figure."""
    ways = "1 is the same direction, 0 is none in common, below 0 is against each other."
    ways = f"{ways} 0 is the middle of the colours, and less has a stroke."
    half = "Of the entries that both changed, the share that they changed in opposite directions; chance gives a half."
    half = f"{half} That is the middle of the colours, and less has a stroke."
    all_sections = [
        _section(
            grid, "norm", "Norm", "Length of the task vector, as a share of the base's in the same tensors.",
            found.models, lambda f, i: f.models[i].relative_norm, percent, 0.0,
        ),
        _section(
            grid, "cosine", "Cosine", ways,
            _pairs(found), lambda f, i: f.pairs[i].cosine, cosine, 0.2, middle=0.0,
        ),
        _section(
            grid, "conflict", "Sign conflict", half,
            _pairs(found), lambda f, i: f.pairs[i].sign_conflict, percent, 1.0, middle=0.5,
        ),
        _section(
            grid, "overlap", "Overlap", "Of the entries that either changed, the share that both changed.",
            _pairs(found), lambda f, i: f.pairs[i].overlap, percent, 1.0,
        ),
    ]  # fmt: skip
    return tuple(section for section in all_sections if section.maps)


def percent(share: float | None) -> str:
    """Write a share in percent."""
    return "–" if share is None else f"{100 * share:.3g} %"


def cosine(value: float | None) -> str:
    """Write a cosine."""
    return "–" if value is None else f"{round(value, 3) + 0.0:.3f}".replace("-", MINUS)


def step_of(value: float, low: float, high: float) -> int:
    """Return the step, 0 to 9, of a value on a scale."""
    return min(int(10 * (value - low) / (high - low)), 9) if high > low else 0


def _pairs(found: Comparison) -> list[str]:
    return [f"{found.models[pair.first]} · {found.models[pair.second]}" for pair in found.total.pairs]


def _section(
    grid: Grid,
    key: str,
    title: str,
    note: str,
    titles: Sequence[str],
    measure: Measure,
    text: Text,
    least_high: float,
    *,
    middle: float | None = None,
) -> Section:
    """Make the maps of a figure. Its scale goes up to `least_high` at the least: noise is not to look like much.

    With a `middle` it goes as far below it as above.
    """
    low, high = 0.0, least_high
    values = []
    for i in range(len(titles)):
        line = [measure(cell.group.figures, i) for cell in grid.cells]
        defined = [value for value in line if value is not None]
        low, high = min([low, *defined]), max([high, *defined])
        values.append(line)
    if middle is not None:
        reach = max(high - middle, middle - low)
        low, high = middle - reach, middle + reach
    maps = []
    for name, line in zip(titles, values, strict=True):
        shades = []
        for cell, value in zip(grid.cells, line, strict=True):
            shades.append(_shade(value, low, high, middle, f"{_place(cell.group)}: {text(value)}"))
        maps.append(HeatMap(name, tuple(shades)))
    return Section(
        key,
        title,
        note,
        text(low),
        text(high),
        _SCALE if middle is None else _SIDES,
        tuple(maps),
    )


def _shade(value: float | None, low: float, high: float, middle: float | None, note: str) -> Shade:
    if value is None:
        return Shade(None, note)
    if middle is None:
        return Shade(f"h{step_of(value, low, high)}", note)
    step = side_step(value - middle, high - middle)
    return Shade(f"d{step}", note, step < MIDDLE)


def _place(group: Group) -> str:
    return " ".join(filter(None, (group.layer, group.role)))
