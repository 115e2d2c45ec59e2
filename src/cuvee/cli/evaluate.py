"""cuvee evaluate: a model's scores on tasks, with intervals."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cuvee.evaluate import Report

NAME = "evaluate"


def command(
    model: str = typer.Argument(..., metavar="MODEL", help="A model's folder, or its name on a hub."),
    tasks: list[str] = typer.Argument(..., metavar="TASK...", help="A task's file or name, a suite, or lm-eval:NAME."),
    out: Path | None = typer.Option(None, help="Folder for the report and every answer; a rerun continues."),
    limit: int | None = typer.Option(None, min=1, help="Only the first items of each task."),
    batch_size: str = typer.Option("auto", help="Rows in a batch, or auto."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, or split over all of them."),
    dtype: str = typer.Option("float32", help="float32, bfloat16 or float16."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    scoring: str = typer.Option("sum", help="sum, per_byte, per_character, per_token, letter or kit."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
) -> None:
    """Score MODEL on each TASK: multiple choice by log-likelihood, generation by its metric."""
    from cuvee.cli.progress import shown_progress
    from cuvee.evaluate import evaluate
    from cuvee.hub import Hub
    from cuvee.plan.resolve import folder_of

    options: dict[str, Any] = {"device": device, "dtype": dtype, "scoring": scoring}
    size = _number(batch_size)
    progress = shown_progress()
    place = folder_of(model, Hub(offline=offline), progress)
    report = evaluate(place, tasks, out=out, limit=limit, batch_size=size, progress=progress, **options)  # type: ignore[arg-type]  # evaluate checks it
    if as_json:
        import json

        typer.echo(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        _print(report)


def _number(text: str) -> int | str:
    """Return a number if the text is one."""
    try:
        return int(text)
    except ValueError:
        return text


def _print(report: "Report") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("task")
    table.add_column("metric")
    for column in ("items", "score", "standard error", "95 % interval"):
        table.add_column(column, justify="right")
    scores = [score for task in report.tasks for score in task.scores]
    for score in [*scores, *([report.macro] if report.macro and len(report.tasks) > 1 else [])]:
        interval = f"{score.low:.1%} to {score.high:.1%}"
        figures = (f"{score.value:.1%}", f"{score.standard_error:.1%}", interval)
        cells = [Text(cell) for cell in (score.task, score.metric, str(score.n), *figures)]  # names are no markup
        table.add_row(*cells, style="bold" if score.task == "macro" else "")
    console = Console()
    console.print(table)
    for note in report.notes:
        console.print(Text(f"note: {note}"))
