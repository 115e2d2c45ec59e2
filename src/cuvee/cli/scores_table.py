"""Scores, ranks and differences as tables for a terminal. Names are shown as they are, never as markup."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from cuvee.amounts import signed
from cuvee.report.evaluation import number, probability

if TYPE_CHECKING:
    from cuvee.evaluation import Difference, Gap, Ranking, Report
    from cuvee.evaluation.parents import AgainstParents
    from cuvee.evaluation.report import Figure

STYLES = {"better": "green", "worse": "red", "tie": ""}


def score_table(report: "Report") -> Table:
    """Show every metric of every task with its interval, the macro average last."""
    table = _table("task", "metric", right=("items", "score", "standard error", "95 % interval"))
    scores = list(chain.from_iterable(task.scores for task in report.tasks))
    if report.macro and len(report.tasks) > 1:
        scores.append(report.macro)
    for score in scores:
        interval = f"{score.low:.1%} to {score.high:.1%}"
        cells = (score.task, score.metric, str(score.n), f"{score.value:.1%}", f"{score.standard_error:.1%}", interval)
        table.add_row(*map(Text, cells), style="bold" if score.task == "macro" else "")
    return table


def figures_table(report: "Report") -> Table | None:
    """Show scores of whole tasks and of groups, on the scale of each metric; None where there are none."""
    if not report.figures:
        return None
    has_intervals = any(figure.interval for figure in report.figures)
    last = ("95 % interval",) if has_intervals else ()
    table = _table("task or group", "metric", right=("items", "value", "standard error", *last))
    for figure in report.figures:
        cells = [figure.task, figure.metric, str(figure.n), number(figure.value), *_sureness(figure)]
        table.add_row(*map(Text, cells[: len(table.columns)]))
    return table


def figures_beside_table(reports: Sequence["Report"], names: Sequence[str]) -> Table:
    """Show the figures of a blend and of its parents, with the interval of each."""
    table = _table("task or group", "metric", "model", right=("items", "value", "standard error", "95 % interval"))
    for place, figure in enumerate(reports[0].figures):
        for name, report in zip(names, reports, strict=True):
            own = report.figures[place]
            cells = (own.task, own.metric, name, str(own.n), number(own.value), *_sureness(own))
            table.add_row(*map(Text, cells), style="bold" if own is figure else "")
    return table


def _sureness(figure: "Figure") -> tuple[str, str]:
    """Write the standard error and the interval of a figure, a dash for what is not known."""
    error = "-" if figure.standard_error is None else number(figure.standard_error)
    interval = " to ".join(map(number, figure.interval)) if figure.interval else "-"
    return error, interval


def ranking_table(ranking: "Ranking", names: Sequence[str]) -> Table:
    """Show the models by their macro average with plausible ranks and ties."""
    table = _table("rank", "model", right=("average", "95 % interval", "best of all"))
    table.add_column("tied with")
    for standing in ranking.standings:
        macro = standing.macro
        tied = ", ".join(names[position] for position in standing.tied) or "-"
        figures = (f"{macro.value:.1%}", f"{macro.low:.1%} to {macro.high:.1%}", probability(standing.best))
        table.add_row(*map(Text, (standing.rank, names[standing.position], *figures, tied)))
    return table


def difference_table(first: str, others: Sequence[str], differences: Sequence["Difference"]) -> Table:
    """Show the first model minus each of the others: on average, and task by task."""
    table = _table("task", f"{first} minus", right=("points", "95 % interval", "better", "won", "lost", "items"))
    tasks = list(differences[0].tasks)
    for task in [*tasks, *(["macro"] if len(tasks) > 1 else [])]:
        for other, difference in zip(others, differences, strict=True):
            gap = difference.macro if task == "macro" else difference.tasks[task]
            table.add_row(*map(Text, (task, other, *gap_cells(gap))), style=STYLES[gap.verdict])
    return table


def change_table(compared: "AgainstParents", names: Mapping[str, str]) -> Table:
    """Show for each task how the blend did, beside the parent that is best there."""
    table = _table(
        "task", "outcome", "best parent", right=("points", "95 % interval", "better", "won", "lost", "items")
    )
    for change in compared.changes:
        cells = (change.task, change.outcome, names[change.best_parent], *gap_cells(change.gap))
        table.add_row(*map(Text, cells), style=STYLES[change.gap.verdict])
    return table


def gap_cells(gap: "Gap") -> tuple[str, ...]:
    """Write a difference, its interval, the probability that the first is better, and the items."""
    interval = f"{signed(gap.low)} to {signed(gap.high)}"
    return signed(gap.value), interval, probability(gap.better), str(gap.won), str(gap.lost), str(gap.n)


def _table(*left: str, right: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in left:
        table.add_column(column)
    for column in right:
        table.add_column(column, justify="right")
    return table
