"""A track as a page: its rule as a sentence, and the rows of its board and its final with an axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from cuvee.amounts import points
from cuvee.competition.pages.board_page import Axis, axis_of
from cuvee.competition.pages.paging import ROWS_PER_PAGE, Page, page_of_rows, read_page_number
from cuvee.competition.track_order import TOKENS
from cuvee.competition.track_views import TrackPlaceView, TrackView
from cuvee.report import Figure
from cuvee.submission.competition import Competition


@dataclass(frozen=True)
class Row:
    """A place as the page writes it. `low` and `high` are on the axis, where there is one."""

    place: TrackPlaceView
    rank: str
    value: str
    interval: str
    figure: Figure | None


@dataclass(frozen=True)
class Table:
    """The rows of a board or a final; `axis` is None where nothing is drawn. `count` are the rows of all pages."""

    title: str
    caption: str
    page: Page[Row]
    count: int
    axis: Axis | None

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of this page."""
        return self.page.rows


@dataclass(frozen=True)
class Reading:
    """What a reader asks of a track: a page of each table, by the table's part, and rows as one has them on a page.

    `reader` is the number of the reader's team, whose row stands on each page.
    """

    track: str = ""
    pages: Mapping[str, int] = field(default_factory=dict)
    reader: int | None = None
    rows_per_page: int = ROWS_PER_PAGE

    def link(self, part: str, *, page: int) -> str:
        """Return the address of a page of one table; the others stay as they are."""
        wanted = {**self.pages, part: page}
        query = urlencode({name: number for name, number in wanted.items() if number > 1})
        return f"/tracks/{self.track}{'?' if query else ''}{query}#{part}"


EVERYTHING = Reading(rows_per_page=10**6)
"""All rows on one page, as a file has them."""


def read_pages(track: str, query: Mapping[str, str], reader: int | None) -> Reading:
    """Read which pages of a track's tables are wanted: `?board=2&final=3`."""
    return Reading(track, {part: read_page_number(query.get(part, "1")) for part in PARTS}, reader)


PARTS = ("final", "board")
MEASURES = {
    "score": "Score",
    "score_per_token": f"For {TOKENS:,} tokens",
    "claim_gap": "Gap",
    "report": "Raters' mean",
}


def track_values(of: Competition, track: TrackView, reading: Reading = EVERYTHING) -> dict[str, Any]:
    """Return what the template of a track is filled with."""
    items = " on items that nobody has" if of.hides_board else " on public items"
    phase = of.first_public_phase
    return {
        "track": track,
        "rule": rule_of(track),
        "tables": tables_of(track, items, reading),
        "link": reading.link,
        "measure": MEASURES[track.by],
        "hides_scores": phase is not None and phase.feedback == "none",
    }


def rule_of(track: TrackView) -> str:
    """Say what counts in a track, as a sentence."""
    floor = f" of at least {points(track.at_least)} points" if track.at_least else ""
    only = f", for entries with a score{floor}" if floor else ""
    if track.by == "report":
        return f"Written reports. Raters give each 0 to {_short(track.scale)}, and the mean of these counts."
    if track.by == "claim_gap":
        gap = "The smallest gap between the score that a team claims and that of the judge"
        return f"{gap}, on the task where the two differ most{only}. Entries without a claim have no place."
    if track.by == "score_per_token":
        return f"The score for each token that an entry answers with{only}."
    return f"The score of entries{floor} {_limit(track)}."


def _limit(track: TrackView) -> str:
    """Say what an entry of a track by score may cost."""
    if track.most_cpu_seconds is not None:
        return f"that take at most {_short(track.most_cpu_seconds)} CPU seconds, as control groups count them"
    if track.most_tuning_tokens is not None:
        what = "for which the judge reads, to tune or to search,"
        most = f"at most {track.most_tuning_tokens:,} tokens" if track.most_tuning_tokens else "no token"
        return f"{what} {most}"
    return f"that take at most {track.most_tokens:,} tokens"


def tables_of(track: TrackView, board_items: str, reading: Reading = EVERYTHING) -> list[Table]:
    """Return the tables of a track: the final first, once it is there, then the board, which is by `board_items`."""
    tables = []
    if track.published:
        where = "" if track.by == "report" else " on private items"
        tables.append(_table(track, "Final", track.final, where, reading))
    if track.by != "report":
        tables.append(_table(track, "Board", track.board, board_items, reading))
    return tables


def _table(track: TrackView, title: str, places: Sequence[TrackPlaceView], where: str, reading: Reading) -> Table:
    page = page_of_rows(
        [_row(track, place) for place in places],
        [place.team.id for place in places],
        reading.pages.get(title.lower(), 1),
        reader=reading.reader,
        rows_per_page=reading.rows_per_page,
    )
    figures = [row.figure for row in page.drawn if row.figure is not None]
    has_axis = bool(figures) and track.by == "score"
    axis = axis_of(figures) if has_axis else None
    return Table(title, f"{_caption(track, where)} {_RANKS[track.by]}", page, len(places), axis)


_RANKS = {
    "score": "A rank such as 2–5 says that the items do not tell these places apart.",
    "score_per_token": "A rank such as 2–5 says that the items do not tell these places apart.",
    "claim_gap": "Equal gaps share their ranks, and stand in the order of the score.",
    "report": "One report ranks above another only where at least two raters have read both and all of them say so.",
}


def _caption(track: TrackView, where: str) -> str:
    if track.by == "report":
        return "Mean of the raters' scores; below it the least and the most that one gave."
    if track.by == "claim_gap":
        return (
            "How far a claimed public score is from the judge's, in points of 100, on the task where they differ most."
        )
    if track.by == "score_per_token":
        return f"Points of 100{where} for {TOKENS:,} tokens; below it the 95 % interval."
    return f"Weighted mean of the tasks{where}, in points of 100, with 95 % intervals."


def _row(track: TrackView, place: TrackPlaceView) -> Row:
    figure, interval = None, ""
    if place.low is not None and place.high is not None:
        figure = Figure(place.value, place.low, place.high)
        dash = "–" if place.low >= 0 else " to "
        interval = f"{_number(track, place.low)}{dash}{_number(track, place.high)}"
    return Row(place, _rank(place.ranks), _number(track, place.value), interval, figure)


def _rank(ranks: tuple[int, int] | None) -> str:
    if ranks is None:
        return "–"
    return f"{ranks[0]}" if ranks[0] == ranks[1] else f"{ranks[0]}–{ranks[1]}"


def _number(track: TrackView, value: float) -> str:
    if track.by == "report":
        return f"{value:.2f}"
    if track.by == "score_per_token":
        return f"{100 * value:.2f}"
    return points(value)


def _short(value: float) -> str:
    return f"{value:g}"
