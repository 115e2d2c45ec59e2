"""cuvee evaluate: a model's scores on tasks, with intervals, and beside those of its parents."""

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cuvee.cli.executors import RAY, SLURM, executor_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cuvee.evaluation import Report
    from cuvee.evaluation.parents import AgainstParents
    from cuvee.evaluation.served import Served
    from cuvee.hub import Hub
    from cuvee.progress import Progress

NAME = "evaluate"
PAGE, AGAINST, PARENTS = "report.html", "against_parents.json", "parents"


def command(
    model: str = typer.Argument(
        ..., metavar="MODEL", help="A model's folder, its name on a hub, or a server's http://HOST:PORT/v1[#NAME]."
    ),
    tasks: list[str] = typer.Argument(..., metavar="TASK...", help="A task's file or name, a suite, or lm-eval:NAME."),
    out: Path | None = typer.Option(
        None, metavar="FOLDER", help="Folder for the report, a page and every answer; a rerun continues."
    ),
    limit: int | None = typer.Option(None, min=1, metavar="N", help="Only the first items of each task."),
    batch_size: str = typer.Option("auto", metavar="N", help="Rows in a batch, or auto."),
    device: str = typer.Option("auto", metavar="DEVICE", help="auto, cpu, cuda, or split over all of them."),
    dtype: str = typer.Option("float32", metavar="TYPE", help="float32, bfloat16 or float16."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    scoring: str = typer.Option("sum", metavar="NAME", help="sum, per_byte, per_character, per_token, letter or kit."),
    task_prompts: bool = typer.Option(
        False, "--task-prompts", help="Ask as the tasks say, even if the recipe of MODEL has a prompt."
    ),
    against_parents: bool = typer.Option(
        False, "--against-parents", help="Measure the models that MODEL was merged from too, and compare."
    ),
    probe: str = typer.Option(
        "", metavar="MODEL", help="Of a server: first check a few items against this model in memory."
    ),
    recipe_folder: Path | None = typer.Option(
        None, metavar="FOLDER", help="Where the recipe lay, if its parents are not found."
    ),
    card: bool = typer.Option(
        False, "--card", help="Write the scores into the README.md of the model's folder, or adapter's."
    ),
    also: list[str] = typer.Option(
        [], "--also", metavar="MODEL...", help="Further models, each with a folder in FOLDER; all are ranked."
    ),
    workers: int = typer.Option(
        1, min=1, metavar="N", help="Processes, Ray's actors or SLURM's jobs, each with a model at a time."
    ),
    ray: str = RAY,
    slurm: str = SLURM,
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON; of several models the ranking."),
) -> None:
    """Score MODEL on each TASK: multiple choice by log-likelihood, generation by its metric."""
    from cuvee.cli.progress import shown_progress
    from cuvee.engine.plain import loadable_folder
    from cuvee.errors import RecipeError
    from cuvee.evaluation import evaluate
    from cuvee.evaluation.parents import evaluate_with_parents
    from cuvee.hub import Hub

    options: dict[str, Any] = {"device": device, "dtype": dtype, "scoring": scoring, "batch_size": _number(batch_size)}
    progress, hub = shown_progress(), Hub(offline=offline)
    if also or workers > 1 or ray or slurm:
        from cuvee.cli.evaluate_several import measure_and_rank

        models = [model, *also]
        _refuse_with_several(models, {"--against-parents": against_parents, "--probe": probe, "--card": card})
        with executor_of(workers, ray, slurm) as executor:
            measure_and_rank(
                models,
                tasks,
                executor,
                out=out,
                as_json=as_json,
                offline=offline,
                own_prompts=not task_prompts,
                limit=limit,
                progress=progress,
                **options,
            )
        return
    readme = _card_of(model) if card else None

    def measure(folder: Path, place: Path | None, progress: "Progress") -> "Report":
        return evaluate(folder, tasks, out=place, limit=limit, progress=progress, **options)

    if model.startswith(("http://", "https://")):
        served = _served(model, tasks, probe, against_parents, hub, options)
        _show(evaluate(served, tasks, out=out, limit=limit, progress=progress, **options), None, out, as_json)
        return
    if probe:
        raise RecipeError("--probe checks a server", hint="give the server's address as MODEL")
    from cuvee.evaluation.model import own_prompt

    place = loadable_folder(model, hub, progress)
    options["prompt"] = {} if task_prompts else own_prompt(place)  # parents are asked what their blend is asked
    if not against_parents:
        report = measure(place, out, progress)
        if readme is not None:
            _write_card(readme, report, "")
        _show(report, None, out, as_json)
        return
    (compared,) = evaluate_with_parents(
        [(place, out)], measure, out=out and out / PARENTS, hub=hub, progress=progress, recipe_folder=recipe_folder
    )
    if readme is not None:
        _write_card(readme, compared.blend, compared.sentence if compared.changes else "")
    _show(compared.blend, compared, out, as_json)


def _refuse_with_several(models: "Sequence[str]", options: "Mapping[str, object]") -> None:
    """Raise RecipeError for a server, and for an option that is for one model in this process."""
    from cuvee.errors import RecipeError

    for model in models:
        if model.startswith(("http://", "https://")):
            raise RecipeError(f"'{model}' is a server, which is measured alone, from here", hint="leave out the others")
    for name, value in options.items():
        if value:
            raise RecipeError(f"{name} is for one model, measured here", hint="measure that model alone with it")


def _card_of(model: str) -> Path:
    """Return the card of a model's folder, or of its adapter's. Raises RecipeError if there is none to write into."""
    from cuvee.checkpoint.model_card import CARD
    from cuvee.errors import RecipeError

    adapter = model.partition("+")[2]
    card = Path(adapter or model) / CARD
    if card.is_symlink() or not card.is_file():
        message = f"--card writes into {CARD} of a model's folder, and there is none"
        raise RecipeError(message, where=model, hint="leave out --card, or give the folder of a merge")
    return card


def _write_card(card: Path, report: "Report", sentence: str) -> None:
    """Write the scores into a card, in one go."""
    import os

    from cuvee.evaluation.output import writing
    from cuvee.report.scored_card import scored_card

    text = scored_card(card.read_text(encoding="utf-8"), report, sentence=sentence, where=str(card))
    partial = card.with_name(f".{card.name}.partial")
    with writing(card.parent):
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, card)
    typer.echo(f"scores in {card}", err=True)


def _served(
    address: str, tasks: list[str], probe: str, against_parents: bool, hub: "Hub", options: dict[str, Any]
) -> "Served":
    """Reach a server, with the key in OPENAI_API_KEY if any, and check it."""
    import os

    from cuvee.cli.progress import shown_progress
    from cuvee.errors import RecipeError
    from cuvee.evaluation import load_model, load_tasks
    from cuvee.evaluation.probe import probe as compared
    from cuvee.evaluation.served import open_server
    from cuvee.plan.resolve import folder_of

    if against_parents:
        raise RecipeError("a server does not say what its model was made of", hint="leave out --against-parents")
    served = open_server(address, key=os.environ.get("OPENAI_API_KEY"))
    if probe:
        folder = folder_of(probe, hub, shown_progress())
        local = load_model(folder, device=options["device"], dtype=options["dtype"])
        found = compared(served, local, list(chain.from_iterable(map(load_tasks, tasks))))
        typer.echo(f"probe: {found.items} items agree within {found.largest:.2g} nats a token", err=True)
    return served


def _number(text: str) -> int | str:
    """Return the number that a text stands for, or the text."""
    try:
        return int(text)
    except ValueError:
        return text


def _show(report: "Report", compared: "AgainstParents | None", out: Path | None, as_json: bool) -> None:
    import json

    from cuvee.cli.report import print_report

    found = report.to_json() | ({"against_parents": compared.to_json()} if compared else {})
    if out is not None:
        _write(out, compared)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print_report(report)
    if compared is not None:
        print_against_parents(compared)


def _write(out: Path, compared: "AgainstParents | None") -> None:
    """Write the page, and the comparison with the parents, beside the report."""
    import json

    from cuvee.cli.page import write_page
    from cuvee.evaluation.evaluated import read_evaluated
    from cuvee.evaluation.output import writing
    from cuvee.report import render_evaluation

    folders = [out]
    if compared is not None:
        folders += compared.folders
        with writing(out):
            text = json.dumps(compared.to_json(), indent=2, ensure_ascii=False) + "\n"
            (out / AGAINST).write_text(text, encoding="utf-8")
    write_page(render_evaluation([read_evaluated(folder) for folder in folders]), out / PAGE)


def print_against_parents(compared: "AgainstParents") -> None:
    """Show the differences to every parent, and the gains and losses in a sentence."""
    from rich.console import Console
    from rich.text import Text

    from cuvee.cli.scores_table import change_table, difference_table, figures_beside_table
    from cuvee.report import short_names

    names = short_names([compared.blend.model, *compared.names])
    console = Console()
    if compared.blend.figures:
        console.print()
        console.print(figures_beside_table([compared.blend, *compared.parents], names))
    if not compared.differences:
        return
    console.print()
    console.print(difference_table(names[0], names[1:], compared.differences))
    console.print()
    console.print(change_table(compared, dict(zip(compared.names, names[1:], strict=True))))
    console.print(Text(compared.sentence))
