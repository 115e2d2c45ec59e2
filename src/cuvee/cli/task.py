"""cuvee task: list the bundled tasks, check a file of predictions against a task, write a task for lm-eval."""

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cuvee.evaluation import Task

NAME = "task"

app = typer.Typer(help="List tasks, check predictions for one, write one for lm-eval.", no_args_is_help=True)


@app.command("list")
def list_tasks(as_json: bool = typer.Option(False, "--json", help="Print as JSON.")) -> None:
    """List the bundled tasks: their items, how they are judged, and one question with its answer."""
    from cuvee import demo
    from cuvee.evaluation import load_task

    tasks = [load_task(name) for name in demo.task_names()]
    if as_json:
        import json

        typer.echo(json.dumps([_described(task) for task in tasks], indent=2, ensure_ascii=False))
        return
    _print(tasks)
    typer.echo("\nBesides, a task is a .csv, .jsonl or .yaml file, a suite of them, or lm-eval:NAME.")


def _described(task: "Task") -> dict[str, Any]:
    sample = task.samples[0]
    answer = sample.target
    if sample.choices and sample.target is not None:
        answer = sample.choices[int(sample.target)]
    return {
        "name": task.name,
        "items": len(task.samples),
        "kind": "multiple choice" if sample.choices else "generation",
        "metric": task.metrics[0],
        "question": sample.input,
        "answer": answer,
    }


def _print(tasks: "list[Task]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("task", "items", "metric", "a question", "its answer"):
        table.add_column(column, justify="right" if column == "items" else "left")
    for task in tasks:
        described = _described(task)
        texts = (described[key] for key in ("name", "items", "metric", "question", "answer"))
        table.add_row(*(Text(str(text).strip()) for text in texts))
    Console(highlight=False).print(table)


@app.command("check-predictions")
def check_predictions(
    file: Path = typer.Argument(..., metavar="FILE", help="A submission.csv: id,prediction,dummy_field."),
    tasks: list[str] = typer.Argument(..., metavar="TASK...", help="The tasks that it answers."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Say whether FILE answers every item of the tasks: no blank, no index that is no choice's, no id missing."""
    from dataclasses import asdict

    from cuvee.evaluation import load_tasks
    from cuvee.evaluation.predictions import check_predictions as check

    found = check(file, list(chain.from_iterable(map(load_tasks, tasks))))
    if as_json:
        import json

        typer.echo(json.dumps({"valid": True, **asdict(found)}))
    else:
        typer.echo(f"{file} is valid: {found.rows} predictions, {found.choices} choices and {found.texts} texts")


@app.command("export")
def export(
    task: str = typer.Argument(..., metavar="TASK", help="A .csv, .jsonl, task.yaml, a suite or a bundled task."),
    folder: Path = typer.Argument(..., metavar="FOLDER", help="Where NAME.yaml and NAME.jsonl are written."),
) -> None:
    """Write TASK for lm-eval, which reads it with --include_path FOLDER."""
    from cuvee.evaluation import load_tasks
    from cuvee.evaluation.export import export_to_lm_eval

    for each in load_tasks(task):
        typer.echo(export_to_lm_eval(each, folder))
