"""A comparison as lines for a terminal: models and pairs as a whole, then layers and roles, as the width allows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from operator import attrgetter, methodcaller
from string import ascii_uppercase

from cuvee.comparison import Comparison, Figures
from cuvee.comparison.figures import figures
from cuvee.comparison.groups import together
from cuvee.comparison.sums import Sums

MOST_LAYERS = 10
"""Rows for layers; deeper models are shown in spans of layers."""

CELL = 7
"""Characters of a figure, space before it included."""

GAP = "  "

Row = tuple[str, Figures]
Measure = Callable[[Figures, int], str]


@dataclass(frozen=True)
class Column:
    """A column: its head, and the figure that it shows of a row, of a model or pair by its position."""

    head: str
    position: int
    measure: Measure

    def text(self, row: Figures) -> str:
        return self.measure(row, self.position)


@dataclass(frozen=True)
class Part:
    """Columns under one heading."""

    heading: str
    columns: tuple[Column, ...]

    @property
    def width(self) -> int:
        return max(CELL * len(self.columns), len(self.heading) + 1) + len(GAP)


def comparison_lines(found: Comparison, width: int) -> Iterator[str]:
    """Yield the lines, at most `width` wide if the names of the models are shorter."""
    marks = [mark(i) for i in range(len(found.models))]
    total = found.total
    yield f"base {found.base}: norm {total.base_norm:.4g}, {total.entries:,} entries in {total.tensors} tensors"
    yield ""
    yield from _models(found, marks)
    if total.pairs:
        yield ""
        yield from _pairs(found, marks)
    for title, rows in (("layer", _layer_rows(found)), ("role", _role_rows(found))):
        label = max((len(text) for text, _ in [(title, total), *rows]))
        for parts in _fitting(_parts(marks), width - label) if rows else []:
            yield ""
            yield from _table(title, rows, parts, label)


def mark(i: int) -> str:
    """Name the models A, B, ... Z, A1, B1, ..."""
    return ascii_uppercase[i % 26] + (str(i // 26) if i >= 26 else "")


def _models(found: Comparison, marks: Sequence[str]) -> Iterator[str]:
    longest = max(len(name) for name in (*found.models, "task vector"))
    yield f"   {'task vector':<{longest}} {'norm':>9} {'of base':>9} {'changed':>9}"
    for mark, name, figure in zip(marks, found.models, found.total.models, strict=True):
        shares = f"{_percent(figure.relative_norm):>8}% {_percent(figure.changed_share):>8}%"
        yield f"{mark:<2} {name:<{longest}} {figure.norm:>9.4g} {shares}"


def _pairs(found: Comparison, marks: Sequence[str]) -> Iterator[str]:
    yield f"{'pair':<7} {'cosine':>7} {'sign conflict':>14} {'overlap':>9}"
    for pair in found.total.pairs:
        name = f"{marks[pair.first]}·{marks[pair.second]}"
        shares = f"{_percent(pair.sign_conflict):>13}% {_percent(pair.overlap):>8}%"
        yield f"{name:<7} {_cosine(pair.cosine):>7} {shares}"


def _parts(marks: Sequence[str]) -> list[Part]:
    pairs = ["·".join(pair) for pair in combinations(marks, 2)]
    measures: list[tuple[str, Sequence[str], Measure]] = [
        ("norm, % of base", marks, lambda f, i: _percent(f.models[i].relative_norm)),
        ("cosine", pairs, lambda f, i: _cosine(f.pairs[i].cosine)),
        ("sign conflict, %", pairs, lambda f, i: _percent(f.pairs[i].sign_conflict)),
        ("overlap, %", pairs, lambda f, i: _percent(f.pairs[i].overlap)),
    ]
    parts = []
    for heading, heads, text in measures:
        if heads:
            columns = tuple(Column(head, i, text) for i, head in enumerate(heads))
            parts.append(Part(heading, columns))
    return parts


def _layer_rows(found: Comparison) -> list[Row]:
    """Return a row for each layer, or for each span of layers where there are many."""
    stacks: dict[str, list[tuple[int, Sums]]] = {}
    outside = []
    for tensor in found.tensors:
        if tensor.layer is None:
            outside.append(tensor.sums)
        else:
            stacks.setdefault(tensor.layer.prefix, []).append((tensor.layer.index, tensor.sums))
    rows: list[Row] = []
    for prefix, layers in stacks.items():
        rows += _spans(f"{prefix}." if len(stacks) > 1 else "", layers)
    if rows and outside:
        rows.append(("outside", figures(together(outside))))
    return rows


def _spans(prefix: str, tensors: Sequence[tuple[int, Sums]]) -> list[Row]:
    layers = sorted({index for index, _ in tensors})
    size = -(-len(layers) // MOST_LAYERS)
    rows: list[Row] = []
    for start in range(0, len(layers), size):
        span = layers[start : start + size]
        label = f"{span[0]}" if len(span) == 1 else f"{span[0]}–{span[-1]}"
        rows.append((prefix + label, figures(together(sums for index, sums in tensors if index in span))))
    return rows


def _role_rows(found: Comparison) -> list[Row]:
    return [(group.role or "", group.figures) for group in found.roles]


def _fitting(parts: Sequence[Part], room: int) -> list[list[Part]]:
    """Put parts side by side while they fit; cut a part that does not fit alone."""
    most = max(1, (room - len(GAP)) // CELL)
    tables: list[list[Part]] = []
    left = 0
    for part in chain.from_iterable(_cut(whole, most) for whole in parts):
        if part.width > left or not tables:
            tables.append([])
            left = room
        tables[-1].append(part)
        left -= part.width
    return tables


def _cut(part: Part, most: int) -> list[Part]:
    return [Part(part.heading, part.columns[i : i + most]) for i in range(0, len(part.columns), most)]


def _table(title: str, rows: Sequence[Row], parts: Sequence[Part], label: int) -> Iterator[str]:
    yield (" " * label + "".join(f"{GAP} {part.heading:<{part.width - len(GAP) - 1}}" for part in parts)).rstrip()
    yield f"{title:<{label}}" + _cells(parts, attrgetter("head"))
    for text, found in rows:
        yield f"{text:<{label}}" + _cells(parts, methodcaller("text", found))


def _cells(parts: Sequence[Part], text: Callable[[Column], str]) -> str:
    """Lay out a line: for each part the texts of its columns, flush right."""
    cells = []
    for part in parts:
        line = "".join(f"{text(column):>{CELL}}" for column in part.columns)
        cells.append(f"{GAP}{line:<{part.width - len(GAP)}}")
    return "".join(cells).rstrip()


def _percent(share: float | None) -> str:
    """Write a share in percent, with the digits that a column has room for."""
    if share is None:
        return "-"
    return f"{100 * share:.2f}" if 0 < 100 * share < 1 else f"{100 * share:.1f}"


def _cosine(cosine: float | None) -> str:
    return "-" if cosine is None else f"{round(cosine, 3) + 0.0:.3f}"  # no -0.000
