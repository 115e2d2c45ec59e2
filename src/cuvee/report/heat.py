"""The heat map of models and tasks, and its colours: ten steps from champagne to red wine, a step for each ten points.

Lightness falls (rises in the dark theme) with every step, so the map reads the same without colour vision and in
grey. Each background carries the text colour that keeps a contrast of at least 4.5 on it (WCAG 2, level AA).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from cuvee.amounts import points
from cuvee.report.leaderboard import PARENT_KINDS, Entry, Figure, Leaderboard, interval, rows

Part = Literal["private", "public"]


class Shade(NamedTuple):
    background: str
    text: str


# Straight lines in OKLCH between hand-picked ends, written out in sRGB.
LIGHT = (
    Shade("#f9f1e5", "#14060a"),
    Shade("#ebd6c2", "#14060a"),
    Shade("#e0b9a3", "#14060a"),
    Shade("#d49c8b", "#14060a"),
    Shade("#c67f74", "#14060a"),
    Shade("#b76261", "#14060a"),
    Shade("#a64452", "#ffffff"),
    Shade("#8c2f43", "#ffffff"),
    Shade("#701e33", "#ffffff"),
    Shade("#560c24", "#ffffff"),
)
DARK = (
    Shade("#2e1d24", "#ffffff"),
    Shade("#4b2836", "#ffffff"),
    Shade("#693346", "#ffffff"),
    Shade("#893e55", "#ffffff"),
    Shade("#a84d62", "#ffffff"),
    Shade("#c3626c", "#14060a"),
    Shade("#db7976", "#14060a"),
    Shade("#e89981", "#14060a"),
    Shade("#f0ba94", "#14060a"),
    Shade("#f6d9b2", "#14060a"),
)


# Blue below a middle, which hardly shows, and wine above it. In grey both ends look alike, so a page marks one of them.
BLUES_LIGHT = ("#1f4470", "#3a6490", "#5a84ad", "#8aa8c6", "#b9cbdc")
WINES_LIGHT = ("#e0b9a3", "#c67f74", "#a64452", "#8c2f43", "#560c24")
BLUES_DARK = ("#c6e0f2", "#8fb8d6", "#5f8fb4", "#3e6788", "#2f4a63")
WINES_DARK = ("#693346", "#893e55", "#c3626c", "#e89981", "#f6d9b2")
SIDES_LIGHT = (*BLUES_LIGHT, "#efe9e2", *WINES_LIGHT)
SIDES_DARK = (*BLUES_DARK, "#2b2226", *WINES_DARK)
MIDDLE = 5


@dataclass(frozen=True)
class HeatCell:
    """A score. `best` marks the highest printed score of a column in a group of several, `own` an expert's skill."""

    figure: Figure | None
    note: str
    best: bool
    own: bool


@dataclass(frozen=True)
class HeatGroup:
    """Entries of one sort; each line holds the mean and then the tasks in order."""

    title: str
    lines: tuple[tuple[Entry, tuple[HeatCell, ...]], ...]


def heat_map(leaderboard: Leaderboard, part: Part) -> tuple[HeatGroup, ...]:
    """Lay out a part: parents in the order given, so that their skills form a diagonal, then the others ranked."""
    by_title: dict[str, list[Entry]] = {"Parents": [], "Blends": [], "References": []}
    for entry in leaderboard.entries:
        if entry.kind in PARENT_KINDS:
            by_title["Parents"].append(entry)
    for row in rows(leaderboard):
        if row.entry.kind == "blend":
            by_title["Blends"].append(row.entry)
        elif row.entry.kind == "reference":
            by_title["References"].append(row.entry)
    tasks = [task.name for task in leaderboard.tasks]
    groups = []
    for title, entries in by_title.items():
        if entries:
            groups.append(HeatGroup(title, _lines(entries, tasks, part)))
    return tuple(groups)


def heat_step(fraction: float) -> int:
    """Return the step, 0 to 9, of a score. It follows the printed figure, so 30.0 is always step 3."""
    return min(max(int(round(100 * fraction, 1) // 10), 0), 9)


def heat_css() -> str:
    """Write the rules of the classes `h0` to `h9`; paper takes the light colours."""
    return f"{_rules(LIGHT)}\n@media screen and (prefers-color-scheme: dark) {{\n{_rules(DARK)}\n}}"


def side_step(distance: float, reach: float) -> int:
    """Return the step, 0 to 10, of a distance from the middle, which is step 5; `reach` is that of the ends."""
    share = distance / reach if reach else 0.0
    return MIDDLE + min(max(round(MIDDLE * share), -MIDDLE), MIDDLE)


def sides_css() -> str:
    """Write the rules of the classes `d0` to `d10`, whose middle is `d5`; paper takes the light colours."""
    return (
        f"{_side_rules(SIDES_LIGHT)}\n@media screen and (prefers-color-scheme: dark) {{\n{_side_rules(SIDES_DARK)}\n}}"
    )


def _side_rules(colours: tuple[str, ...]) -> str:
    return "\n".join(f".d{step} {{ background: {colour}; fill: {colour}; }}" for step, colour in enumerate(colours))


def _lines(entries: list[Entry], tasks: list[str], part: Part) -> tuple[tuple[Entry, tuple[HeatCell, ...]], ...]:
    columns = ["", *tasks]  # the macro average first
    best = [_best(entries, task, part) for task in columns]
    lines = []
    for entry in entries:
        cells = []
        for task, highest in zip(columns, best, strict=True):
            figure = _figure(entry, task, part)
            is_highest = figure is not None and _printed(figure) == highest
            is_best = is_highest and len(entries) > 1
            skill = entry.skill if entry.kind == "expert" else ""
            is_own = task != "" and task == skill
            cells.append(HeatCell(figure=figure, note=_note(entry, task), best=is_best, own=is_own))
        lines.append((entry, tuple(cells)))
    return tuple(lines)


def _best(entries: list[Entry], task: str, part: Part) -> float:
    """Return the highest printed score of a task, 0 if there is none."""
    figures = [_figure(entry, task, part) for entry in entries]
    return max((_printed(figure) for figure in figures if figure), default=0.0)


def _printed(figure: Figure) -> float:
    """Round to the printed digits: scores that look equal are marked alike."""
    return round(100 * figure.value, 1)


def _figure(entry: Entry, task: str, part: Part) -> Figure | None:
    """Return the score of a task, or the mean for no task; None where it was not measured."""
    if part == "private":
        return entry.private_tasks.get(task) if task else entry.private
    return entry.public_tasks.get(task) if task else entry.public


def _note(entry: Entry, task: str) -> str:
    parts: tuple[Part, Part] = ("private", "public")
    notes = []
    for part in parts:
        figure = _figure(entry, task, part)
        if figure:
            notes.append(f"{part} {points(figure.value)} ({interval(figure)})")
    return "; ".join(notes)


def _rules(shades: tuple[Shade, ...]) -> str:
    return "\n".join(
        f".h{step} {{ background: {shade.background}; color: {shade.text}; fill: {shade.background}; }}"
        for step, shade in enumerate(shades)
    )
