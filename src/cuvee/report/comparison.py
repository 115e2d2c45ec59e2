"""A comparison of task vectors as an HTML file: totals as tables, and heat maps of layers and roles for each figure.

Complete without scripts and without a network; the stylesheet is named by its hash, as on the page of a leaderboard.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cuvee.comparison import Comparison, Figures, Group
from cuvee.report.heat import heat_css
from cuvee.report.layer_grid import Grid, layer_grid
from cuvee.report.template import render, stylesheet

Measure = Callable[[Figures, int], float | None]
Text = Callable[[float | None], str]


@dataclass(frozen=True)
class Shade:
    """A cell: its step of the scale, None where the figure is undefined, and its note."""

    step: int | None
    note: str


@dataclass(frozen=True)
class HeatMap:
    """A figure of a model or pair, a shade for each cell of the grid."""

    title: str
    shades: tuple[Shade, ...]


@dataclass(frozen=True)
class Section:
    """All maps of a figure, on the same scale from `low` to `high`."""

    key: str
    title: str
    note: str
    low: str
    high: str
    maps: tuple[HeatMap, ...]


def render_comparison(found: Comparison) -> str:
    """Render the page. The same comparison gives the same text. Raises MissingExtra without jinja2."""
    grid = layer_grid(found)
    values = {
        "found": found,
        "pairs": _pairs(found),
        "grid": grid,
        "sections": sections(found, grid),
        "style": stylesheet("comparison.css", heat_css()),
    }
    return render("comparison.html.j2", values, {"percent": percent, "cosine": cosine})


def sections(found: Comparison, grid: Grid) -> tuple[Section, ...]:
    """Return the heat maps, figure by figure."""
    half = "Of the entries that both changed, the share that they changed in opposite directions; chance gives a half."
    all_sections = [
        _section(
            grid, "norm", "Norm", "Length of the task vector, as a share of the base's in the same tensors.",
            found.models, lambda f, i: f.models[i].relative_norm, percent, 0.0,
        ),
        _section(
            grid, "cosine", "Cosine", "1 is the same direction, 0 is none in common, below 0 is against each other.",
            _pairs(found), lambda f, i: f.pairs[i].cosine, cosine, 0.2,
        ),
        _section(
            grid, "conflict", "Sign conflict", half,
            _pairs(found), lambda f, i: f.pairs[i].sign_conflict, percent, 1.0,
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
    return "–" if value is None else f"{round(value, 3) + 0.0:.3f}"


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
) -> Section:
    """Make the maps of a figure. Its scale goes up to `least_high` at the least: noise is not to look like much."""
    low, high = 0.0, least_high
    values = []
    for i in range(len(titles)):
        line = [measure(cell.group.figures, i) for cell in grid.cells]
        defined = [value for value in line if value is not None]
        low, high = min([low, *defined]), max([high, *defined])
        values.append(line)
    maps = []
    for name, line in zip(titles, values, strict=True):
        shades = []
        for cell, value in zip(grid.cells, line, strict=True):
            step = None if value is None else step_of(value, low, high)
            shades.append(Shade(step, f"{_place(cell.group)}: {text(value)}"))
        maps.append(HeatMap(name, tuple(shades)))
    return Section(key, title, note, text(low), text(high), tuple(maps))


def _place(group: Group) -> str:
    return " ".join(filter(None, (group.layer, group.role)))
