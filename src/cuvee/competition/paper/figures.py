"""The figures of a report as SVG: the final ranking with its intervals, and the way from the public board to it.

They are drawn as on the pages, with colours of their own for paper, and name no font that must be there.
"""

from dataclasses import dataclass

from cuvee.competition.board import shown_rank
from cuvee.competition.pages.board_page import Axis, axis_of
from cuvee.competition.pages.final_page import final_drawing
from cuvee.competition.pages.render import environment
from cuvee.competition.views import FinalPlaceView, FinalView
from cuvee.report import Figure

STYLE = (
    "text{font:12px Helvetica,Arial,sans-serif;fill:#2b1a1f}"
    ".quiet,tspan.quiet{fill:#6d5960}"
    ".axis{stroke:#d8ccc0;fill:none}"
    ".whisker{stroke:#2b1a1f;stroke-width:1.5;fill:none}"
    ".dot{fill:#7d1f3c}"
    ".dot.parent,.dot.baseline{fill:#fff;stroke:#6d5960;stroke-width:2}"
    "g>path:not(.axis):not(.whisker):not(.lead){fill:none;stroke:#7d1f3c;stroke-width:2}"
    "g.parent>path:not(.whisker):not(.lead),g.baseline>path:not(.whisker):not(.lead)"
    "{stroke:#6d5960;stroke-dasharray:4 3}"
    ".lead{stroke:#d8ccc0;fill:none}"
)
WIDTH, LEFT, TOP, ROW_HEIGHT = 720, 330, 34, 22


@dataclass(frozen=True)
class Row:
    """A place of the ranking as it is drawn: pixels along the axis, and how far down."""

    name: str
    rank: str
    kind: str
    low: float
    at: float
    high: float
    y: float


def figures_of(final: FinalView) -> dict[str, str]:
    """Draw the figures, by the name of their file; none of an empty ranking."""
    drawing = final_drawing(final)
    if drawing is None:
        return {}
    slope = environment().get_template("slope.svg.j2").module.slope(drawing, STYLE)  # type: ignore[attr-defined]  # its macro
    return {"final.svg": _ranking(final), "slope.svg": str(slope).strip() + "\n"}


def _ranking(final: FinalView) -> str:
    figures = [Figure(place.score.value, place.score.low, place.score.high) for place in final.places]
    axis = axis_of(figures, WIDTH - LEFT - 30)
    rows = [_row(place, axis, ROW_HEIGHT * (number + 0.5)) for number, place in enumerate(final.places)]
    height = TOP + ROW_HEIGHT * len(rows) + 12
    values = {"rows": rows, "axis": axis, "style": STYLE, "width": WIDTH, "height": height}
    return (
        environment().get_template("ranking.svg.j2").render(**values, left=LEFT, top=TOP, row_height=ROW_HEIGHT) + "\n"
    )


def _row(place: FinalPlaceView, axis: Axis, y: float) -> Row:
    low, at, high = (axis.at(value) for value in (place.score.low, place.score.value, place.score.high))
    return Row(place.team.name, shown_rank(place.ranks), place.team.kind, low, at, high, y)
