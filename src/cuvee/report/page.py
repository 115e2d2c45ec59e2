"""The leaderboard as an HTML file: no network, no fonts, no images; complete without scripts.

Text of the leaderboard is escaped by the template. The page's own stylesheet and script are named by their hashes in a
content security policy, so a browser runs nothing else even if an escape were missing.
"""

import math
from dataclasses import dataclass

from cuvee.amounts import points, signed
from cuvee.report.heat import heat_css, heat_map, heat_step
from cuvee.report.leaderboard import (
    Difference,
    Leaderboard,
    interval,
    rows,
    verdict_sentence,
)
from cuvee.report.template import render, shipped, stylesheet


def render_page(leaderboard: Leaderboard) -> str:
    """Render the page. The same leaderboard gives the same text. Raises MissingExtra without jinja2."""
    ranked = rows(leaderboard)
    return render(
        "leaderboard.html.j2",
        {
            "board": leaderboard,
            "rows": ranked,
            "private_heat": heat_map(leaderboard, "private"),
            "public_heat": heat_map(leaderboard, "public"),
            "verdict": verdict_sentence(leaderboard),
            "summary": summary(leaderboard),
            "scale": score_scale(leaderboard),
            "verdict_scale": difference_scale(leaderboard.verdict),
            "parent": next(row for row in ranked if row.mark == "best parent"),
            "style": stylesheet("leaderboard.css", heat_css()),
            "script": shipped("leaderboard.js"),
        },
        {"points": points, "signed": signed, "interval": interval, "duration": duration, "heat": heat_step},
    )


def summary(leaderboard: Leaderboard) -> str:
    """Say in a sentence which models are ranked, and by which score."""
    kinds = [entry.kind for entry in leaderboard.entries]
    blends, references = kinds.count("blend"), kinds.count("reference")
    parents = len(kinds) - blends - references
    extra = f" and {_counted(references, 'reference')}" if references else ""
    return (
        f"{_counted(blends, 'blend')} of {_counted(parents, 'parent model')}{extra}, measured on "
        f"{_counted(len(leaderboard.tasks), 'task')} and ranked by their mean score on private items, "
        "which no recipe was chosen on."
    )


@dataclass(frozen=True)
class Scale:
    """A straight axis: `left` to `right` in fractions over `width` pixels, with ticks at round values."""

    left: float
    right: float
    width: int
    ticks: tuple[float, ...]

    def x(self, fraction: float) -> float:
        """Place a value in pixels; values outside are drawn at the edge."""
        share = (fraction - self.left) / (self.right - self.left)
        return round(self.width * min(max(share, 0.0), 1.0), 1)


def score_scale(leaderboard: Leaderboard) -> Scale:
    """Take a scale for all bars: from zero, so that lengths compare, to the next ten points above every interval."""
    highest = max(max(entry.private.high, entry.private.value) for entry in leaderboard.entries)
    tenths = min(max(math.ceil(round(highest * 10, 6)), 1), 10)
    step = 1 if tenths <= 4 else 2
    return Scale(0.0, tenths / 10, 200, tuple(tenth / 10 for tenth in range(0, tenths + 1, step)))


def difference_scale(difference: Difference) -> Scale:
    """Take a scale that shows zero and the whole interval, with a little room on both sides."""
    low, high = min(difference.low, 0.0), max(difference.high, 0.0)
    room = max(0.12 * (high - low), 0.005)
    return Scale(low - room, high + room, 300, (0.0,))


def duration(seconds: float | None) -> str:
    """Write a time for people: "0.4 s", "12 s", "3 min 20 s"."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
