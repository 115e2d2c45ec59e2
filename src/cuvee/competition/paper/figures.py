"""The figures of a report as SVG: the final ranking and those of tracks with their intervals, and the way from
the public board to the final.

They are drawn as on the pages, with colours of their own for paper, and name no font that must be there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cuvee.competition.board import shown_rank
from cuvee.competition.pages.board_page import Axis, axis_of
from cuvee.competition.pages.final_page import final_drawing
from cuvee.competition.pages.render import environment
from cuvee.competition.track_views import TrackView
from cuvee.competition.views import FinalView, TeamView
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


def figures_of(final: FinalView, tracks: Sequence[TrackView] = ()) -> dict[str, str]:
    """Draw the figures, by the name of their file; none of an empty ranking, and of tracks those by score."""
    drawing = final_drawing(final)
    if drawing is None:
        return {}
    slope = environment().get_template("slope.svg.j2").module.slope(drawing, STYLE)  # type: ignore[attr-defined]  # its macro
    drawn = {"final.svg": _ranking(_places(final)), "slope.svg": str(slope).strip() + "\n"}
    for track in tracks:
        places = _track_places(track) if track.by == "score" else []
        if places:
            drawn[f"track-{track.name}.svg"] = _ranking(places)
    return drawn


Drawn = tuple[TeamView, str, Figure]
"""Whose row it is, its rank, and its score with its interval."""


def _places(final: FinalView) -> list[Drawn]:
    places = []
    for place in final.places:
        score = Figure(place.score.value, place.score.low, place.score.high)
        places.append((place.team, shown_rank(place.ranks), score))
    return places


def _track_places(track: TrackView) -> list[Drawn]:
    places = []
    for place in track.final:
        if place.low is not None and place.high is not None:
            score = Figure(place.value, place.low, place.high)
            places.append((place.team, shown_rank(place.ranks), score))
    return places


def _ranking(places: Sequence[Drawn]) -> str:
    axis = axis_of([score for _, _, score in places], WIDTH - LEFT - 30)
    rows = [_row(*place, axis, ROW_HEIGHT * (number + 0.5)) for number, place in enumerate(places)]
    height = TOP + ROW_HEIGHT * len(rows) + 12
    values = {"rows": rows, "axis": axis, "style": STYLE, "width": WIDTH, "height": height}
    return (
        environment().get_template("ranking.svg.j2").render(**values, left=LEFT, top=TOP, row_height=ROW_HEIGHT) + "\n"
    )


def _row(team: TeamView, rank: str, score: Figure, axis: Axis, y: float) -> Row:
    low, at, high = (axis.at(value) for value in (score.low, score.value, score.high))
    return Row(team.name, rank, team.kind, low, at, high, y)
