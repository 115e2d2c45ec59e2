"""cuvee parents: the gains and losses of blends, each beside the models that it was merged from."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cuvee.evaluation import Report
    from cuvee.evaluation.parents import AgainstParents
    from cuvee.progress import Progress

NAME = "parents"


def command(
    folder: Path = typer.Argument(..., metavar="FOLDER", help="A blend, or a folder of blends."),
    tasks: list[str] = typer.Argument(..., metavar="TASK...", help="A .csv, .jsonl, task.yaml or a bundled task."),
    out: Path | None = typer.Option(None, metavar="FOLDER", help="Folder for the answers of all; a rerun continues."),
    limit: int | None = typer.Option(None, min=1, metavar="N", help="Only the first items of each task."),
    device: str = typer.Option("auto", metavar="DEVICE", help="auto, cpu or cuda."),
    dtype: str = typer.Option("float32", metavar="TYPE", help="float32, bfloat16 or float16."),
    recipe_folder: Path | None = typer.Option(
        None, metavar="FOLDER", help="Where the recipes lay, if parents are not found."
    ),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print all differences as JSON."),
) -> None:
    """Compare every blend in FOLDER that has a cuvee.json with its parents: gains and losses.

    All are asked as the tasks say, whatever prompts their recipes have.
    """
    from cuvee.cli.progress import shown_progress
    from cuvee.evaluation import evaluate
    from cuvee.evaluation.parents import blends_in, evaluate_with_parents
    from cuvee.hub import Hub

    options: dict[str, Any] = {"limit": limit, "device": device, "dtype": dtype, "prompt": {}}

    def measure(model: Path, place: Path | None, progress: "Progress") -> "Report":
        return evaluate(model, tasks, out=place, progress=progress, **options)

    blends = [(blend, None if out is None else out / blend.absolute().name) for blend in blends_in(folder)]
    compared = evaluate_with_parents(
        blends,
        measure,
        out=None if out is None else out / "parents",
        hub=Hub(offline=offline),
        progress=shown_progress(),
        recipe_folder=recipe_folder,
    )
    if as_json:
        import json

        typer.echo(json.dumps([each.to_json() for each in compared], indent=2, ensure_ascii=False))
    else:
        _print(compared)


def _print(compared: "tuple[AgainstParents, ...]") -> None:
    from rich.console import Console
    from rich.text import Text

    from cuvee.cli.scores_table import change_table
    from cuvee.report import short_names

    console = Console()
    for each in compared:
        names = short_names(each.names)
        console.print(Text(each.blend.model), style="bold")
        console.print(change_table(each, dict(zip(each.names, names, strict=True))))
        console.print(Text(each.sentence))
        console.print()
