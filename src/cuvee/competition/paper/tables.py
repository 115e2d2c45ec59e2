"""The tables of a report, each as Markdown, LaTeX (booktabs) and CSV. Whatever a team wrote is escaped in each."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cuvee.amounts import MINUS, points, signed
from cuvee.competition.board import shown_rank
from cuvee.competition.export import as_csv, final_csv, track_csv
from cuvee.competition.pages.final_page import control_heads
from cuvee.competition.pages.track_page import MEASURES, rule_of
from cuvee.competition.pages.track_page import tables_of as tables_of_track
from cuvee.competition.paper.results import Results
from cuvee.competition.track_views import TrackPlaceView, TrackView
from cuvee.competition.views import ControlView, FigureView, FinalPlaceView

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    MINUS: "$-$",
    "–": "--",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
MARKDOWN = re.compile(r"([\\`*_\[\]<>|#&~!])")
FIRST_COLUMNS = 2
"""Rank and team, or the like, stand left; all after them are numbers, which stand right."""


@dataclass(frozen=True)
class Table:
    """A table as people read it. `name` is that of its files, `csv_text` its numbers in full, `title` its heading."""

    name: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    csv_text: str
    left: int = FIRST_COLUMNS
    title: str = ""

    def markdown(self) -> str:
        """Write it as a table of Markdown, its caption below."""
        marks = ["---" if number < self.left else "--:" for number in range(len(self.head))]
        lines = [_row(self.head), "|" + "|".join(marks) + "|", *(_row(row) for row in self.rows)]
        return "\n".join([*lines, "", f"*{in_markdown(self.caption)}*", ""])

    def latex(self) -> str:
        """Write it as a floating table of LaTeX; it needs the package booktabs."""
        columns = "l" * self.left + "r" * (len(self.head) - self.left)
        lines = [" & ".join(map(in_latex, row)) + r" \\" for row in self.rows]
        return "\n".join(
            [
                r"\begin{table}[t]",
                r"\centering",
                rf"\caption{{{in_latex(self.caption)}}}",
                rf"\label{{tab:{self.name}}}",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                " & ".join(map(in_latex, self.head)) + r" \\",
                r"\midrule",
                *lines,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def tables_of(results: Results) -> tuple[Table, ...]:
    """Return the tables of a report: the final ranking, its tasks, the methods, controls, and each track's final.

    There is one of controls where any was asked, and one of a track where anybody stands in it.
    """
    tables = [_final(results), _tasks(results), _methods(results)]
    if control_heads(results.final.places):
        tables.append(_controls(results))
    tables += [_track(track) for track in results.tracks if track.final]
    return tuple(tables)


def in_markdown(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return MARKDOWN.sub(r"\\\1", text)


def in_latex(text: str) -> str:
    """Return a text that LaTeX sets as it is."""
    return "".join(LATEX.get(character, character) for character in text)


def _final(results: Results) -> Table:
    head = ("Rank", "Team", "Final", "95 %", "Public", "Gap", "Entries", "Method")
    rows = [_final_row(results, place) for place in results.final.places]
    caption = (
        "Final ranking: weighted mean of the tasks on private items, in points of 100, with its 95 % interval. "
        "A range of ranks says what the items leave open. The gap is the public minus the final score; a star marks "
        "one above that of most, beyond the 95 % interval."
    )
    return Table("final", caption, head, tuple(rows), final_csv(results.final), title="Final ranking")


def _final_row(results: Results, place: FinalPlaceView) -> tuple[str, ...]:
    return (
        shown_rank(place.ranks),
        _team(place),
        points(place.score.value),
        _interval(place.score),
        points(place.public_score),
        signed(place.gap) + ("*" if place.is_alarm else ""),
        str(place.entries),
        results.methods_of(place),
    )


def _cell(figure: FigureView | None) -> str:
    return "–" if figure is None else f"{points(figure.value)} [{_interval(figure)}]"


def _tasks(results: Results) -> Table:
    tasks = [task.name for task in results.competition.tasks if task.private]
    rows, numbers = [], []
    for place in results.final.places:
        figures = [place.tasks.get(task) for task in tasks]
        shown = list(map(_cell, figures))
        rows.append((shown_rank(place.ranks), _team(place), *shown))
        for task, figure in zip(tasks, figures, strict=True):
            if figure is not None:
                numbers.append([place.place, place.team.name, task, figure.value, figure.low, figure.high])
    caption = "Scores of each task on private items, in points of 100, with their 95 % intervals."
    written = as_csv(["place", "team", "task", "score", "low", "high"], numbers)
    return Table("tasks", caption, ("Rank", "Team", *tasks), tuple(rows), written, title="Tasks")


def _methods(results: Results) -> Table:
    head = ("Method", "Teams", "Entries", "Median public", "Best public", "Best final place")
    rows, numbers = [], []
    for use in results.methods:
        place = "–" if use.best_place is None else str(use.best_place)
        median, best = points(use.median_public), points(use.best_public)
        rows.append((use.method, str(use.teams), str(use.entries), median, best, place))
        numbers.append([use.method, use.teams, use.entries, use.median_public, use.best_public, use.best_place])
    caption = (
        "Methods of all scored entries of participants; one of several stages counts for each of its methods. "
        "Scores are public ones, in points of 100. The place is the best among participants of an entry "
        "with the method."
    )
    columns = ["method", "teams", "entries", "median_public", "best_public", "best_final_place"]
    return Table("methods", caption, head, tuple(rows), as_csv(columns, numbers), left=1, title="Methods")


def _controls(results: Results) -> Table:
    heads = control_heads(results.final.places)
    rows = []
    for place in results.final.places:
        by_head = {(own.task, own.kind): own for own in place.controls}
        cells = [_control(by_head[head]) if head in by_head else "–" for head in heads]
        rows.append((shown_rank(place.ranks), _team(place), *cells))
    caption = (
        "Private items asked in another way, in points of 100 with 95 % intervals: what a score loses by another order "
        "of the choices or by other words, and what canaries, which nobody can know, gain over guessing. A star marks "
        "one above that of most, beyond the interval."
    )
    columns = ("Rank", "Team", *(f"{task}, {kind}" for task, kind in heads))
    numbers: list[list[object]] = []
    for place in results.final.places:
        for own in place.controls:
            numbers.append(
                [place.place, place.team.name, own.task, own.kind, own.value, own.low, own.high, own.is_alarm]
            )
    written = as_csv(["place", "team", "task", "kind", "value", "low", "high", "is_alarm"], numbers)
    return Table("controls", caption, columns, tuple(rows), written, title="Controls")


def _control(control: ControlView) -> str:
    star = "*" if control.is_alarm else ""
    return f"{signed(control.value)}{star} [{signed(control.low)} to {signed(control.high)}]"


def _track(track: TrackView) -> Table:
    """Write the final of a track as its page does."""
    (shown,) = [table for table in tables_of_track(track, "") if table.title == "Final"]
    by_report = track.by == "report"
    columns = ["Rank", "Team", MEASURES[track.by], "Raters' range" if by_report else "95 %"]
    columns += ["Raters"] if by_report else ["Tokens", "CPU seconds"]
    columns += ["Tuning tokens"] if track.most_tuning_tokens is not None else []
    rows = [
        (row.rank, _team(row.place), row.value, row.interval or "–", *_costs(track, row.place)) for row in shown.rows
    ]
    caption = f"{track.title}. {rule_of(track)} {shown.caption}"
    return Table(f"track-{track.name}", caption, tuple(columns), tuple(rows), track_csv(track), title=track.title)


def _costs(track: TrackView, place: TrackPlaceView) -> tuple[str, ...]:
    if track.by == "report":
        return (str(place.raters),)
    seconds = "not measured" if place.cpu_seconds is None else f"{place.cpu_seconds:.1f}"
    costs = (f"{place.tokens:,}", seconds)
    return (*costs, f"{place.tuning_tokens:,}") if track.most_tuning_tokens is not None else costs


def _team(place: FinalPlaceView | TrackPlaceView) -> str:
    return place.team.name if place.team.kind == "participant" else f"{place.team.name} ({place.team.kind})"


def _interval(figure: FigureView) -> str:
    return f"{points(figure.low)}–{points(figure.high)}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(in_markdown, cells)) + " |"
