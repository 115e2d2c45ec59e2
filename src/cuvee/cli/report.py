"""cuvee report: evaluations side by side, in the terminal and as a page."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from cuvee.evaluation import Ranking, Report

NAME = "report"


def command(
    folders: list[Path] = typer.Argument(..., metavar="FOLDER...", help="A folder of `cuvee evaluate --out FOLDER`."),
    page: Path | None = typer.Option(None, "--out", metavar="FILE", help="Write the page to this HTML file."),
    as_json: bool = typer.Option(False, "--json", help="Print ranks and differences as JSON."),
) -> None:
    """Show evaluations of the same items side by side: scores, ranks, differences, and on the page every item."""
    from cuvee.cli.page import check_page, write_page
    from cuvee.evaluation import rank
    from cuvee.evaluation.evaluated import read_evaluated
    from cuvee.report import render_evaluation, short_names

    if page is not None:
        check_page(page)
    models = [read_evaluated(folder) for folder in folders]
    names = short_names([model.report.model for model in models])
    ranking = rank([model.report for model in models])
    if page is not None:
        write_page(render_evaluation(models, names=names), page)
    if as_json:
        import json

        typer.echo(json.dumps(ranking.to_json([model.report.model for model in models]), indent=2, ensure_ascii=False))
    else:
        print_ranking(ranking, names)


def print_ranking(ranking: "Ranking", names: list[str]) -> None:
    """Show ranks, and the differences of the first model to the others."""
    from rich.console import Console

    from cuvee.cli.scores_table import difference_table, ranking_table

    console = Console()
    console.print(ranking_table(ranking, names))
    if len(names) > 1:
        console.print()
        console.print(difference_table(names[0], names[1:], ranking.differences[0][1:]))


def print_report(report: "Report") -> None:
    """Show the scores of one model, the figures of whole tasks, and what a reader must know."""
    from rich.console import Console
    from rich.text import Text

    from cuvee.cli.scores_table import figures_table, score_table

    console = Console()
    figures = figures_table(report)
    if report.macro or not figures:
        console.print(score_table(report))
    if report.macro and figures:
        console.print()
    if figures:
        console.print(figures)
    for note in report.notes:
        console.print(Text(f"note: {note}"))
