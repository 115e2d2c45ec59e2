"""The charts of growth on the page of benchmarks: SVG of the numbers in its tables, for light and for dark screens."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from benchmark_chart import STYLE

WIDTH, LEFT, RIGHT, TOP, PANEL, BETWEEN = 480, 56, 60, 34, 130, 62
BUDGET = 512
"""Megabytes that a merge may take where nothing else is said."""

LINES = """
.linear { stroke: #7d1f3c; } .ties { stroke: #4d3940; stroke-dasharray: 5 3; }
.linear, .ties { fill: none; stroke-width: 2; }
.dot { fill: #7d1f3c; } .ring { fill: #fcfaf6; stroke: #4d3940; stroke-width: 2; }
.before { fill: #b9a6a8; }
.budget { stroke: #6d5960; stroke-dasharray: 2 3; }
@media (prefers-color-scheme: dark) {
  .linear { stroke: #f09bb0; } .ties { stroke: #d6c6c4; }
  .dot { fill: #f09bb0; } .ring { fill: #181114; stroke: #d6c6c4; }
  .before { fill: #6d5960; }
  .budget { stroke: #b9a6a8; }
}
"""


@dataclass(frozen=True)
class Panel:
    """One diagram: the lines of methods over the places on the axis, which have these words."""

    title: str
    words: tuple[str, ...]
    places: tuple[float, ...]
    lines: dict[str, tuple[float, ...]]
    limit: float | None = None

    @property
    def highest(self) -> float:
        return max([self.limit or 0, *(value for line in self.lines.values() for value in line)]) * 1.08


def table_of(page: str, first: str) -> list[list[str]]:
    """Return the rows of the table whose first column has this heading."""
    rows: list[list[str]] = []
    inside = False
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == first:
            inside = True
        elif inside and not cells[0].startswith("---"):
            rows.append(cells)
    return rows


def memory_chart(page: str) -> str:
    """Draw the private memory over the number of models, the size of a tensor and the number of workers."""
    models = _panel(page, "models", "number of models", 3, even=False)
    tensors = _panel(page, "tensor", "entries of a tensor, two models and a base", 3, even=True)
    workers = _panel(page, "workers", "number of workers, eight models", 3, even=True)
    return _drawn("Megabytes of private memory beside those before the merge", [models, tensors, workers])


def cost_chart(page: str) -> str:
    """Draw the CPU seconds over the number of models."""
    return _drawn("CPU seconds of the whole process", [_panel(page, "models", "number of models", 2, even=False)])


def before_chart(page: str) -> str:
    """Draw bars of the CPU seconds before and now, for each method where mergekit's 16-bit steps are made."""
    rows = table_of(page, "method, `as_loaded`")
    height, most = 40 + 38 * len(rows), max(float(row[1]) for row in rows)
    parts = _begin("CPU seconds as_loaded: before above, now below", height)
    for number, row in enumerate(rows):
        y, name = 46 + 38 * number, row[0].replace("`", "").partition(",")[0]
        parts.append(f'<text x="150" y="{y + 9}" text-anchor="end">{escape(name)}</text>')
        for kind, seconds, top in (("before", row[1], y - 8), ("cuvee", row[2], y + 5)):
            length = round(float(seconds) / most * 270, 1)
            parts.append(f'<rect class="{kind}" x="160" y="{top}" width="{length}" height="11" rx="2"/>')
            parts.append(f'<text class="quiet" x="{164 + length}" y="{top + 10}">{seconds}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(page: str, heading: str, title: str, column: int, *, even: bool) -> Panel:
    """Read a panel from a table. `even` spaces its words evenly, where numbers would lie on one another."""
    rows = table_of(page, heading)
    words = tuple(dict.fromkeys(row[0] for row in rows))
    places = tuple(range(len(words))) if even else tuple(float(word) for word in words)
    lines: dict[str, tuple[float, ...]] = {}
    for row in rows:
        method = row[1].strip("`")
        lines[method] = (*lines.get(method, ()), float(row[column].split()[0]))
    return Panel(title, tuple(map(_short, words)), places, lines, BUDGET if column == 3 else None)


def _short(word: str) -> str:
    """Return the number of entries for a shape such as 1,024 × 1,024, and other words as they are."""
    if "×" not in word:
        return word
    rows, columns = (int(length.replace(",", "")) for length in word.split("×"))
    entries = rows * columns
    return f"{entries / 1e6:,.0f} M" if entries >= 1e6 else str(entries)


def _begin(title: str, height: int) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}{LINES}</style>",
        f'<text class="quiet" x="6" y="18">{escape(title)}</text>',
    ]


def _drawn(title: str, panels: Sequence[Panel]) -> str:
    parts = _begin(title, TOP + (PANEL + BETWEEN) * len(panels))
    for number, panel in enumerate(panels):
        parts += _axes(panel, TOP + (PANEL + BETWEEN) * number + 8)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axes(panel: Panel, top: int) -> list[str]:
    """Draw a panel that begins at this height."""
    parts = []
    for value in _ticks(panel.highest):
        y = _y(value, panel, top)
        parts.append(f'<line class="line" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="quiet" x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    if panel.limit is not None:
        y = _y(panel.limit, panel, top)
        parts.append(f'<line class="budget" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="quiet" x="{WIDTH - RIGHT + 6}" y="{y + 4}">budget</text>')
    for word, place in zip(panel.words, panel.places, strict=True):
        x = _x(place, panel)
        parts.append(f'<text class="quiet" x="{x}" y="{top + PANEL + 18}" text-anchor="middle">{escape(word)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="quiet" x="{middle}" y="{top + PANEL + 36}" text-anchor="middle">{escape(panel.title)}</text>'
    )
    heights = _apart([_y(line[-1], panel, top) for line in panel.lines.values()], top + PANEL)
    for (method, line), label in zip(panel.lines.items(), heights, strict=True):
        points = [(_x(place, panel), _y(value, panel, top)) for place, value in zip(panel.places, line, strict=True)]
        joined = " ".join(f"{x},{y}" for x, y in points)
        parts.append(f'<polyline class="{method}" points="{joined}"/>')
        dot = "dot" if method == "linear" else "ring"
        parts += [f'<circle class="{dot}" cx="{x}" cy="{y}" r="3.5"/>' for x, y in points]
        parts.append(f'<text x="{WIDTH - RIGHT + 6}" y="{label + 4}">{method}</text>')
    return parts


def _apart(heights: list[float], lowest: float) -> list[float]:
    """Move the heights of labels apart, upwards, where they would lie on one another or below the `lowest`."""
    moved = [min(height, lowest) for height in heights]
    order = sorted(range(len(heights)), key=lambda number: -heights[number])
    for below, above in pairwise(order):
        moved[above] = min(moved[above], moved[below] - 14)
    return moved


def _ticks(highest: float) -> list[float]:
    """Return round values for the lines of an axis, three to six of them."""
    step = next(step for power in (0.1, 1, 10, 100) for step in (power, 2 * power, 5 * power) if highest / step <= 5.5)
    return [round(step * number, 6) for number in range(int(highest / step) + 1)]


def _x(place: float, panel: Panel) -> float:
    inside = WIDTH - LEFT - RIGHT - 50
    return round(LEFT + 25 + (place - panel.places[0]) / (panel.places[-1] - panel.places[0]) * inside, 1)


def _y(value: float, panel: Panel, top: int) -> float:
    return round(top + PANEL * (1 - value / panel.highest), 1)
