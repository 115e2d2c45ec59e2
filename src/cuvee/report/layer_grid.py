"""Where a model's layers and roles are in a drawing: roles downwards, layers to the right, the rest as bars below."""

from dataclasses import dataclass

from cuvee.comparison import Comparison, Group

CELL = 16
"""Pixels of a cell."""

LETTER = 7.6
"""Pixels that a letter of a label takes on average, with some room."""

LEAST_LAYERS = 8
"""Models with fewer layers get wider cells."""

TICKS = 4
"""Layers between two numbers on the axis, in a model of many."""

MOST_NUMBERED = 10
"""Layers that all have a number: of one digit each, as wide as a cell."""


@dataclass(frozen=True)
class Place:
    """A rectangle, and the tensors that it stands for."""

    x: float
    y: float
    width: float
    group: Group


@dataclass(frozen=True)
class Label:
    """A text beside the cells."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Grid:
    """All rectangles and labels of a drawing of this size."""

    cells: tuple[Place, ...]
    roles: tuple[Label, ...]
    layers: tuple[Label, ...]
    width: int
    height: int


def layer_grid(found: Comparison) -> Grid:
    """Lay out a comparison's layers and roles: a column for each layer, and below them the roles outside the layers."""
    layers = [group.layer for group in found.layers]
    within = list(dict.fromkeys(group.role for group in found.cells))
    outside = [group for group in found.roles if group.role not in within]
    roles = [*within, *(group.role for group in outside)]
    names = [role or "" for role in roles]
    left = round(LETTER * max(map(len, names))) + 8
    wide = CELL * max(1.0, LEAST_LAYERS / max(len(layers), 1))
    across = wide * (len(layers) or LEAST_LAYERS)
    cells = []
    for group in found.cells:
        x, y = left + wide * layers.index(group.layer), CELL * within.index(group.role)
        cells.append(Place(x, y, wide - 1, group))
    tops = [CELL * i for i in range(len(within))]
    first = CELL * len(within) + (6 if within else 0)
    for i, group in enumerate(outside):
        tops.append(first + CELL * i)
        cells.append(Place(left, tops[-1], across - 1, group))
    height = first + CELL * len(outside)
    labels = [Label(left - 6, top + CELL - 4, name) for top, name in zip(tops, names, strict=True)]
    numbers = [Label(left + wide * (i + 0.5), height + 14, text) for i, text in _ticks(layers)]
    return Grid(tuple(cells), tuple(labels), tuple(numbers), round(left + across), height + 18)


def _ticks(layers: list[str | None]) -> list[tuple[int, str]]:
    """Return positions and numbers on the axis: every layer of a few, some of many, and the first of each stack."""
    numbers = [(layer or "").rpartition(".")[2] for layer in layers]
    every = 1 if len(layers) <= MOST_NUMBERED else TICKS
    return [(i, number) for i, number in enumerate(numbers) if int(number) % every == 0]
