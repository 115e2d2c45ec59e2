"""The chart of the benchmarks: an SVG of the numbers in the page's table, for light and for dark screens."""

import math
import re
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT, TOP, ROW, BOTTOM = 480, 182, 44, 54, 24, 40
TICKS = (1, 3, 10, 30, 100, 300)
"""Seconds at which the axis has a line. It is logarithmic: equal distances are equal factors."""

STYLE = """
text { font: 13px system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; fill: #2b1a1f; }
.quiet { fill: #6d5960; }
.line { stroke: #e3d8ce; }
.gap { stroke: #c98496; stroke-width: 2; }
.cuvee { fill: #7d1f3c; }
.mergekit { fill: #fcfaf6; stroke: #4d3940; stroke-width: 2; }
.floor { stroke: #6d5960; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  text { fill: #f2e9e4; }
  .quiet { fill: #b9a6a8; }
  .line { stroke: #3b2d32; }
  .gap { stroke: #a34a65; }
  .cuvee { fill: #f09bb0; }
  .mergekit { fill: #181114; stroke: #d6c6c4; }
  .floor { stroke: #b9a6a8; }
}
"""


@dataclass(frozen=True)
class Row:
    """One method's seconds: the floor, Cuvée's, mergekit's; and how many times faster Cuvée is."""

    method: str
    floor: float
    cuvee: float
    mergekit: float
    factor: float


def rows(page: str) -> list[Row]:
    """Read the first table of the page."""
    found = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 8 and re.fullmatch(r"[\d.]+", cells[2]):
            floor, cuvee, mergekit, factor = (float(cell.split()[0]) for cell in cells[2:6])
            found.append(Row(cells[0].replace("`", ""), floor, cuvee, mergekit, factor))
    return found


def chart(page: str) -> str:
    """Draw a line for each method, from Cuvée's seconds to mergekit's, the largest factor first."""
    ordered = sorted(rows(page), key=lambda row: -row.factor)
    height = TOP + ROW * len(ordered) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img">',
        "<title>Seconds of a merge by Cuvée and by mergekit, for each method</title>",
        f"<style>{STYLE}</style>",
        *_legend(),
        *_axis(height),
    ]
    for number, row in enumerate(ordered):
        parts += _drawn(row, TOP + ROW * number + ROW / 2)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend() -> list[str]:
    return [
        '<line class="floor" x1="6" x2="6" y1="12" y2="24"/>',
        '<text class="quiet" x="14" y="23">only reading, writing</text>',
        '<circle class="cuvee" cx="165" cy="18" r="5"/><text x="175" y="23">Cuvée</text>',
        '<circle class="mergekit" cx="235" cy="18" r="4.5"/><text x="245" y="23">mergekit</text>',
        f'<text class="quiet" x="{WIDTH}" y="23" text-anchor="end">times faster</text>',
    ]


def _axis(height: int) -> list[str]:
    parts = []
    for tick in TICKS:
        x = _x(tick)
        parts.append(f'<line class="line" x1="{x}" x2="{x}" y1="{TOP - 14}" y2="{height - BOTTOM}"/>')
        parts.append(f'<text class="quiet" x="{x}" y="{height - BOTTOM + 16}" text-anchor="middle">{tick}</text>')
    middle = (_x(TICKS[0]) + _x(TICKS[-1])) / 2
    label = "seconds, on a logarithmic axis"
    return [*parts, f'<text class="quiet" x="{middle}" y="{height - 6}" text-anchor="middle">{label}</text>']


def _drawn(row: Row, y: float) -> list[str]:
    floor, cuvee, mergekit = _x(row.floor), _x(row.cuvee), _x(row.mergekit)
    return [
        f'<text x="{LEFT - 14}" y="{y + 4.5}" text-anchor="end">{escape(row.method)}</text>',
        f'<line class="gap" x1="{cuvee}" x2="{mergekit}" y1="{y}" y2="{y}"/>',
        f'<line class="floor" x1="{floor}" x2="{floor}" y1="{y - 6}" y2="{y + 6}"/>',
        f'<circle class="cuvee" cx="{cuvee}" cy="{y}" r="5"/>',
        f'<circle class="mergekit" cx="{mergekit}" cy="{y}" r="4.5"/>',
        f'<text x="{WIDTH}" y="{y + 4.5}" text-anchor="end">{row.factor:.1f}</text>',
    ]


def _x(seconds: float) -> float:
    """Return where a time stands on the logarithmic axis."""
    least, most = math.log(0.7), math.log(TICKS[-1])
    return round(LEFT + (math.log(seconds) - least) / (most - least) * (WIDTH - LEFT - RIGHT), 1)
