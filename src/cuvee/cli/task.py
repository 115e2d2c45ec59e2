"""cuvee task: check a file of predictions against a task, and write a task for lm-eval."""

from pathlib import Path

import typer

NAME = "task"

app = typer.Typer(help="Check predictions for a task, and write a task for lm-eval.", no_args_is_help=True)


@app.command("check-predictions")
def check_predictions(
    file: Path = typer.Argument(..., metavar="FILE", help="A submission.csv: id,prediction,dummy_field."),
    tasks: list[str] = typer.Argument(..., metavar="TASK...", help="The tasks that it answers."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Say whether FILE answers every item of the tasks: no blank, no index that is no choice's, no id missing."""
    from dataclasses import asdict

    from cuvee.evaluate import load_tasks
    from cuvee.evaluate.predictions import check_predictions as check

    found = check(file, [task for where in tasks for task in load_tasks(where)])
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
    from cuvee.evaluate import load_tasks
    from cuvee.evaluate.export import export_to_lm_eval

    for each in load_tasks(task):
        typer.echo(export_to_lm_eval(each, folder))
