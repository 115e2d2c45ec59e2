"""The repair of a merge as an HTML file: how far its blocks were from the experts', before and after.

Complete without scripts and without a network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from cuvee.calibrate.outcome import Aligned, BlockFit, MapFit
from cuvee.report.comparison import percent, step_of
from cuvee.report.evaluation import short_names
from cuvee.report.heat import heat_css
from cuvee.report.template import render, stylesheet

CELL, LETTER = 16, 7.4
WIDEST_CELL = 44
"""Pixels of a cell and of a letter of a label."""

CHART_WIDTH, CHART_HEIGHT, MARGIN = 640, 180, 56


@dataclass(frozen=True)
class Cell:
    """A map of a block: its place, its step of the scale, its note."""

    x: float
    y: float
    step: int
    note: str


@dataclass(frozen=True)
class Grid:
    """A heat map: roles downwards, blocks to the right."""

    title: str
    width: float
    height: float
    cell: float
    roles: tuple[tuple[float, float, str], ...]
    blocks: tuple[tuple[float, float, str], ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Chart:
    """Two lines over the blocks: how far the streams are from the experts'. Ticks are (y, text), (x, text)."""

    before: str
    after: str
    levels: tuple[tuple[float, str], ...]
    blocks: tuple[tuple[float, str], ...]


def render_alignment(aligned: Aligned, merged: str) -> str:
    """Render the page of a repair that was compared with the merge as it was. Raises MissingExtra without jinja2."""
    high = _highest_residual(aligned)
    values = {
        "aligned": aligned,
        "merged": short_names([merged])[0],
        "experts": short_names([text.expert for text in aligned.texts]),
        "grids": (_grid("Before", aligned.before, high), _grid("After", aligned.blocks, high)),
        "chart": _chart(aligned),
        "high": percent(high),
        "ridges": [(name, f"{value:.4f}") for name, value in aligned.divergences.items()],
        "style": stylesheet("alignment.css", heat_css()),
    }
    return render("alignment.html.j2", values, {"percent": percent})


def _highest_residual(aligned: Aligned) -> float:
    residuals: list[float | None] = []
    for own in chain.from_iterable(block.maps for block in aligned.blocks):
        residuals += [own.before, own.after]
    return max(filter(None, residuals), default=0.0)


def _grid(title: str, blocks: Sequence[BlockFit], high: float) -> Grid:
    roles = _roles(blocks)
    left = LETTER * max((len(role) for role in roles), default=0) + 8
    cell = min(WIDEST_CELL, max(CELL, 480 / max(len(blocks), 1)))
    cells = []
    for column, block in enumerate(blocks):
        for own in block.maps:
            if own.after is None:
                continue
            role = _role(own)
            x, y = left + column * cell, roles.index(role) * CELL
            note = f"{role} of block {block.number}: {percent(own.after)}"
            cells.append(Cell(x, y, step_of(own.after, 0.0, high), note))
    labels = tuple((left - 6, row * CELL + 12, role) for row, role in enumerate(roles))
    below = len(roles) * CELL + 14
    every = max(1, len(blocks) // 8)
    numbers = []
    for column in range(0, len(blocks), every):
        x = left + (column + 0.5) * cell
        numbers.append((x, below, str(blocks[column].number)))
    return Grid(title, left + len(blocks) * cell + 4, below + 6, cell - 1, labels, tuple(numbers), tuple(cells))


def _roles(blocks: Sequence[BlockFit]) -> list[str]:
    """List the roles of all maps, in the order in which they come."""
    roles: dict[str, None] = {}
    for block in blocks:
        roles |= dict.fromkeys(map(_role, block.maps))
    return list(roles)


def _role(own: MapFit) -> str:
    return own.tensor.removesuffix(".weight")


def _chart(aligned: Aligned) -> Chart:
    lines = [_distances(aligned.before), _distances(aligned.blocks)]
    high = max([*lines[0], *lines[1]], default=0.0) or 1.0
    depth = max(len(aligned.blocks), 2)

    def x(number: int) -> float:
        return MARGIN + (CHART_WIDTH - MARGIN - 12) * number / (depth - 1)

    def y(value: float) -> float:
        return 12 + (CHART_HEIGHT - 40) * (1 - value / high)

    def path(line: Sequence[float]) -> str:
        return " ".join(f"{x(number):.1f},{y(value):.1f}" for number, value in enumerate(line))

    levels = tuple((y(share * high), percent(share * high)) for share in (0.0, 0.5, 1.0))
    every = max(1, depth // 8)
    blocks = tuple((x(number), str(number)) for number in range(0, depth, every))
    return Chart(path(lines[0]), path(lines[1]), levels, blocks)


def _distances(blocks: Sequence[BlockFit]) -> list[float]:
    return [block.distance for block in blocks if block.distance is not None]
