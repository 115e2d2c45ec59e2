"""The page of a search, as an HTML file: its best candidates, how sure they are, and its cost.

Complete without scripts and without a network. While the search runs, the page may load itself anew.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cuvee.amounts import points, signed
from cuvee.report.evaluation import short_names
from cuvee.report.leaderboard import Difference
from cuvee.report.page import Scale, difference_scale, duration
from cuvee.report.search_charts import amount, panels, parallel, plane, progress, roles_of, round_ticks
from cuvee.report.template import render, shipped, stylesheet
from cuvee.search.choice import Choice, Versus
from cuvee.search.report import Candidate, SearchReport

MOST_DIMENSIONS = 15
"""Dimensions whose importance is listed."""

ROLE_STYLES = 5
"""Line styles of depth curves that the stylesheet tells apart."""


@dataclass(frozen=True)
class Part:
    """The score of the picked candidate on a part of the items."""

    name: str
    note: str
    value: float
    low: float
    high: float
    n: int


def render_search(report: SearchReport, *, refresh_seconds: int | None = None) -> str:
    """Render the page. The page of a running search loads itself anew after `refresh_seconds`.

    The same report gives the same text. Raises MissingExtra without jinja2.
    """
    running = report.phase == "running"
    values = {
        **_verdict(report.choice),
        "report": report,
        "running": running,
        "refresh": refresh_seconds if running else None,
        "standing": standing(report),
        "summary": summary(report),
        "progress": progress(report),
        "parallel": parallel(report),
        "panels": panels(report.curves),
        "roles": roles_of(report.curves),
        "role_styles": ROLE_STYLES,
        "importance": _importance(report),
        "plane": plane(report.front) if report.front else None,
        "candidates": sorted(report.candidates, key=_rank),
        "counts": Counter(candidate.state for candidate in report.candidates),
        "style": stylesheet("search.css"),
        "script": shipped("leaderboard.js"),
    }
    filters: dict[str, Callable[..., str]] = {
        "points": points,
        "signed": signed,
        "duration": duration,
        "amount": amount,
        "settings": settings,
        "percent": _percent,
        "sentence": _sentence,
    }
    return render("search.html.j2", values, filters)


def summary(report: SearchReport) -> str:
    """Sum up the search in a sentence or two."""
    tasks = len(report.tasks)
    on = "one task" if tasks == 1 else f"{tasks} tasks"
    base, *experts = short_names([report.base, *report.models])
    start = f"Recipes that blend {base} with {_listed(experts)}, scored on {on}."
    anchors = sum(candidate.anchor is not None for candidate in report.candidates)
    tried = len(report.candidates) - anchors
    return f"{start} {tried} candidates were tried beside {anchors} anchors, which are what you have without a search."


def standing(report: SearchReport) -> str:
    """Say how a search stands that has no verdict."""
    if report.phase == "finished":
        return "The search measured no candidate beside its anchors, so there is nothing to compare."
    if report.best is None or report.best.value is None:
        return "No candidate has answered all search items yet."
    return (
        f"Best so far: {report.best.name} with {points(report.best.value)} points on the search items, on which it was "
        "found. What it is worth is measured on other items when the search ends."
    )


def parts(choice: Choice) -> tuple[Part, ...]:
    """List the three scores of the picked candidate."""
    named = (
        ("Search", "the search saw these items", choice.search),
        ("Select", "the finalists were chosen among on these", choice.select),
        ("Report", "nothing was chosen on these", choice.report),
    )
    return tuple(Part(name, note, own.value, own.low, own.high, own.n) for name, note, own in named)


def honesty(choice: Choice) -> str:
    """Say how much of the search's own score was luck."""
    start = (
        f"Where the search found it, {choice.picked} scored {points(choice.search.value)}, and "
        f"{points(choice.report.value)} on items that nothing was chosen on"
    )
    optimism = choice.optimism
    interval = f"(95 % interval {signed(optimism.low)} to {signed(optimism.high)})"
    if optimism.value > 0:
        told = f"{start}: the search's own figure is {points(optimism.value)} points too high {interval}."
    else:
        told = f"{start}: here the search's own figure is not too high, {signed(optimism.value)} points {interval}."
    return (
        f"{told} The best of {choice.measured} equally good candidates would gain {points(choice.luck)} points on "
        "the search items by luck alone."
    )


def settings(candidate: Candidate) -> str:
    """Write a candidate's parameters in a line."""
    values = [f"{name} {_number(value)}" for name, value in candidate.parameters.items()]
    return " · ".join(values)


def _verdict(choice: Choice | None) -> dict[str, Any]:
    """Return the page's values of the choice; all empty before there is a choice."""
    if choice is None:
        return {"choice": None, "versus": None, "parts": ()}
    return {
        "choice": choice,
        "versus": choice.deciding,
        "verdict_scale": difference_scale(_difference(choice.deciding)),
        "parts": parts(choice),
        "part_scale": _part_scale(choice),
        "honesty": honesty(choice),
        "gap_scale": _gap_scale(choice.against),
    }


def _difference(versus: Versus) -> Difference:
    return Difference(versus.gap.value, versus.gap.low, versus.gap.high)


def _gap_scale(against: Sequence[Versus]) -> Scale:
    low = min(0.0, *(versus.gap.low for versus in against))
    high = max(0.0, *(versus.gap.high for versus in against))
    return difference_scale(Difference(0.0, low, high))


def _part_scale(choice: Choice) -> Scale:
    """Take a scale that shows all three scores with their intervals, and the luck that the last may have."""
    scores = parts(choice)
    low = min(part.low for part in scores)
    high = max(choice.report.value + choice.luck, *(part.high for part in scores))
    ticks = round_ticks(max(low - 0.02, 0.0), min(high + 0.02, 1.0), 5)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.1
    left, right = max(ticks[0] - step, 0.0), min(ticks[-1] + step, 1.0)
    return Scale(left, right, 360, ticks)


def _importance(report: SearchReport) -> tuple[tuple[str, float], ...]:
    ranked = sorted(report.importance.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(ranked[:MOST_DIMENSIONS])


def _rank(candidate: Candidate) -> tuple[int, float, int]:
    """Order candidates: measured, dropped, running, failed; the best first."""
    order = ("measured", "dropped", "running", "failed").index(candidate.state)
    value = 0.0 if candidate.value is None else candidate.value
    return order, -value, candidate.number


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _sentence(text: str) -> str:
    """Begin with a capital."""
    return text[:1].upper() + text[1:]


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
