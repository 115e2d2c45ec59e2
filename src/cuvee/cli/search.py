"""cuvee search: recipes tried one after the other, the best chosen and reported on items that it was not found on."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from cuvee.cli.executors import RAY, SLURM, executor_of
from cuvee.cli.many_values import ManyValues

if TYPE_CHECKING:
    from cuvee.search.report import SearchReport
    from cuvee.search.setting import Budget
    from cuvee.search.space import WrittenSpace

NAME = "search"
PAGE = "index.html"
REFRESH_SECONDS = 10
AS_JSON = typer.Option(False, "--json", help="Print as JSON.")


class SpaceFirst(TyperGroup):
    """Takes `cuvee search SPACE OUT` for `cuvee search run SPACE OUT`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Put `run` before arguments that begin with no command's name."""
        if args and args[0] not in self.commands:
            args = ["run", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    help="Find a better recipe: `cuvee search SPACE OUT` tries many, and reports honestly on the best.",
    no_args_is_help=True,
    cls=SpaceFirst,
)


@app.command("run")
def run(
    space: Path = typer.Argument(..., metavar="SPACE", help="The space's file; `cuvee search new` writes one."),
    out: Path = typer.Argument(..., metavar="OUT", help="Folder for the journal, the page and the best recipe."),
    budget: str = typer.Option(
        "", metavar="AMOUNT", help="200 full candidates' worth of items, 30m, 2h or 50Mtok; the space's by default."
    ),
    workers: int = typer.Option(
        1, min=1, metavar="N", help="Processes, Ray's actors or SLURM's jobs, each with the models in memory."
    ),
    ray: str = RAY,
    slurm: str = SLURM,
    fresh: bool = typer.Option(False, "--fresh", help="Start anew where OUT has a search already."),
    memory: str = typer.Option("", metavar="SIZE", help="Memory for the models of each worker."),
    device: str = typer.Option("auto", metavar="DEVICE", help="auto, cpu or cuda."),
    watch: bool = typer.Option(False, "--watch", help="Let the page load itself anew while the search runs."),
    as_json: bool = AS_JSON,
) -> None:
    """Try recipes of SPACE and write the best to OUT; run it again to go on where it was stopped."""
    from cuvee.cli.amounts import parse_bytes
    from cuvee.cli.progress import shown_progress
    from cuvee.report.template import check_installed
    from cuvee.search.run import search
    from cuvee.submission.searched import space_at_home

    check_installed()
    written, texts = space_at_home(space, out)
    with executor_of(workers, ray, slurm) as executor:
        report = search(
            written,
            out,
            executor,
            folder=space.parent,
            budget=_budget(budget, written),
            fresh=fresh,
            memory_bytes=parse_bytes(memory, "--memory") if memory else None,
            device=device,
            texts=texts,
            progress=shown_progress(),
            watch=lambda report: write_page(report, out, watch),
        )
    _show(report, out, as_json)


@app.command("new", cls=ManyValues)
def new(
    base: str = typer.Option(..., metavar="MODEL", help="The base model."),
    models: list[str] = typer.Option(..., "--models", "--model", metavar="MODEL...", help="The experts."),
    tasks: list[str] = typer.Option(..., "--tasks", "--task", metavar="TASK...", help="Files or names of tasks."),
) -> None:
    """Print a space with everything that can be said in it, to be changed and saved."""
    from cuvee.search.written import new_space

    typer.echo(new_space(base, models, tasks), nl=False)


@app.command("show")
def show(
    out: Path = typer.Argument(..., metavar="OUT", help="The folder of a search."),
    as_json: bool = AS_JSON,
) -> None:
    """Show the results of a search, and write its page anew."""
    from cuvee.search.report import read_report

    report = read_report(out)
    write_page(report, out, watch=False)
    _show(report, out, as_json)


@app.command("recipe")
def recipe(
    out: Path = typer.Argument(..., metavar="OUT", help="The folder of a search."),
    number: int | None = typer.Argument(None, metavar="[N]", help="A candidate's number; the winner by default."),
) -> None:
    """Print a recipe of a search."""
    from cuvee.search.written import recipe_of

    typer.echo(recipe_of(out, number), nl=False)


@app.command("again", cls=ManyValues)
def again(
    out: Path = typer.Argument(..., metavar="OUT", help="The folder of a search."),
    tasks: list[str] = typer.Option(..., "--tasks", "--task", metavar="TASK...", help="Other tasks."),
    top: int = typer.Option(3, min=1, metavar="N", help="How many of the best are measured."),
    as_json: bool = AS_JSON,
) -> None:
    """Measure the best of a search, and the best anchors, on other tasks."""
    from cuvee.cli.progress import shown_progress
    from cuvee.search.written import measured_again

    _print_again(measured_again(out, tasks, top, shown_progress()), as_json)


def write_page(report: "SearchReport", out: Path, watch: bool) -> None:
    """Write the page of a search in a single step: a browser may be reading it."""
    from cuvee.documents.whole import write_whole
    from cuvee.report.search import render_search

    write_whole(out / PAGE, render_search(report, refresh_seconds=REFRESH_SECONDS if watch else None))


def _budget(text: str, space: "WrittenSpace") -> "Budget":
    from cuvee.search.setting import budget_of

    return budget_of(text or space.budget)


def _show(report: "SearchReport", out: Path, as_json: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    if as_json:
        typer.echo((out / "report.json").read_text(encoding="utf-8"), nl=False)
        return
    from cuvee.cli.search_table import candidates_table, parts_lines

    console = Console()
    console.print(candidates_table(report))
    console.print()
    for line in parts_lines(report):
        console.print(Text(line))
    console.print(Text(f"page: {out / PAGE}; recipe: {out / 'best.yaml'}"))


def _print_again(rows: list[dict[str, Any]], as_json: bool) -> None:
    import json

    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("recipe", "score", "95 % interval", "against the best parent")
    for row in rows:
        interval = f"{row['low']:.1%} to {row['high']:.1%}"
        table.add_row(row["name"], f"{row['value']:.1%}", interval, row["against"])
    Console().print(table)
