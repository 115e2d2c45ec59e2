"""Shows what was measured: the leaderboard as a page and as rows for a terminal. Prints nothing, writes no file."""

from cuvee.report.leaderboard import (
    Difference,
    Entry,
    Figure,
    Leaderboard,
    Row,
    TaskNote,
    rank_ranges,
    rows,
    verdict_sentence,
)
from cuvee.report.page import render_page

__all__ = [
    "Difference",
    "Entry",
    "Figure",
    "Leaderboard",
    "Row",
    "TaskNote",
    "rank_ranges",
    "render_page",
    "rows",
    "verdict_sentence",
]
