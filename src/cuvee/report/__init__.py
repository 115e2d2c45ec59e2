"""Shows measurements: leaderboards, comparisons and searches as pages. Prints nothing, writes no file."""

from cuvee.evaluation.ranking import rank_ranges
from cuvee.report.comparison import render_comparison
from cuvee.report.evaluation import render_evaluation, short_names
from cuvee.report.leaderboard import (
    Difference,
    Entry,
    Figure,
    Leaderboard,
    Row,
    TaskNote,
    comparison_sentence,
    rows,
    verdict_sentence,
)
from cuvee.report.page import render_page
from cuvee.report.search import render_search

__all__ = [
    "Difference",
    "Entry",
    "Figure",
    "Leaderboard",
    "Row",
    "TaskNote",
    "comparison_sentence",
    "rank_ranges",
    "render_comparison",
    "render_evaluation",
    "render_page",
    "render_search",
    "rows",
    "short_names",
    "verdict_sentence",
]
