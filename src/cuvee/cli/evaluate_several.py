"""The part of cuvee evaluate that measures several models, or one on a cluster."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cuvee.evaluation import Report
    from cuvee.evaluation.several import Measured
    from cuvee.executor import Executor

PAGE = "report.html"


def measure_and_rank(
    models: Sequence[str],
    tasks: Sequence[str],
    executor: "Executor",
    *,
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure models, and show them ranked. Raises EvaluationError in the end for those that could not be measured."""
    from cuvee.evaluation.several import evaluate_several

    outcomes = evaluate_several(models, tasks, executor, out=out, **options)
    folders, reports = [], []
    for outcome in outcomes:
        if outcome.report is not None:
            reports.append(outcome.report)
            folders.append(outcome.folder)
    if out is not None and reports:
        _write_page(folders, out)
    if reports:
        _show(reports, as_json)
    _refuse_failures(outcomes)


def _write_page(folders: Sequence[Path | None], out: Path) -> None:
    """Write a page that has the models side by side."""
    from cuvee.cli.page import write_page
    from cuvee.evaluation.evaluated import read_evaluated
    from cuvee.report import render_evaluation

    write_page(render_evaluation([read_evaluated(folder) for folder in folders if folder is not None]), out / PAGE)


def _show(reports: Sequence["Report"], as_json: bool) -> None:
    """Print the report of one model, or several ranked; where items have no scores, their figures beside each other."""
    import json

    from rich.console import Console

    from cuvee.cli.report import print_ranking, print_report
    from cuvee.cli.scores_table import figures_beside_table
    from cuvee.evaluation import rank
    from cuvee.report import short_names

    names = [report.model for report in reports]
    ranking = rank(reports) if len(reports) > 1 and all(report.macro for report in reports) else None
    if as_json:
        content: dict[str, Any] = {"reports": [report.to_json() for report in reports]}
        content |= ranking.to_json(names) if ranking else {}
        typer.echo(json.dumps(content if len(reports) > 1 else reports[0].to_json(), indent=2, ensure_ascii=False))
        return
    if len(reports) == 1:
        print_report(reports[0])
        return
    if ranking:
        print_ranking(ranking, short_names(names))
    if reports[0].figures:
        Console().print(figures_beside_table(reports, short_names(names)))


def _refuse_failures(outcomes: Sequence["Measured"]) -> None:
    from cuvee.errors import several

    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if errors:
        raise several(errors)
