"""cuvee bench: which method is best for these experts, with which scale."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cuvee.cli.executors import RAY, SLURM, executor_of

if TYPE_CHECKING:
    from cuvee.report import Leaderboard
    from cuvee.search.bench import Bench
    from cuvee.search.race import Raced

NAME = "bench"
PAGE = "index.html"


def command(
    base: str = typer.Option(..., "--base", metavar="MODEL", help="The model that the experts come from."),
    experts: list[str] = typer.Option(..., "--experts", metavar="MODEL...", help="The experts; two at least."),
    tasks: list[str] = typer.Option(..., "--tasks", metavar="TASK...", help="Files or names of tasks."),
    texts: list[str] = typer.Option(
        [], "--texts", metavar="TEXT...", help="A text of each expert, in their order: repairs by it are tried, too."
    ),
    out: Path = typer.Option(Path("cuvee-bench"), "--out", metavar="FOLDER", help="Folder for journal and page."),
    budget: str = typer.Option("30m", metavar="AMOUNT", help="30m, 2h, 200 full candidates' worth of items, 50Mtok."),
    workers: int = typer.Option(
        1, min=1, metavar="N", help="Processes, Ray's actors or SLURM's jobs, each with the models in memory."
    ),
    ray: str = RAY,
    slurm: str = SLURM,
    fresh: bool = typer.Option(False, "--fresh", help="Start anew where FOLDER has a bench already."),
    memory: str = typer.Option("", metavar="SIZE", help="Memory for the models of each worker."),
    device: str = typer.Option("auto", metavar="DEVICE", help="auto, cpu or cuda."),
    dtype: str = typer.Option("float32", metavar="TYPE", help="What blends answer in: float32, bfloat16 or float16."),
    allow_public_benchmark: bool = typer.Option(
        False, "--allow-public-benchmark", help="Take well-known public test sets as tasks, too."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the ranking as JSON."),
) -> None:
    """Try every method that fits on your experts, each at its best scale, and rank the blends honestly.

    Run it again to go on where it was stopped. The page is FOLDER/index.html.
    """
    from cuvee.cli.amounts import parse_bytes
    from cuvee.cli.demo import print_board, print_json
    from cuvee.cli.progress import shown_progress
    from cuvee.report.template import check_installed
    from cuvee.search.bench import bench
    from cuvee.search.setting import budget_of
    from cuvee.search.space import family_space
    from cuvee.showcase.bench import bench_board

    check_installed()
    space = family_space(base, experts, tasks, texts, dtype)
    space = space.model_copy(update={"allow_public_benchmark": allow_public_benchmark})
    with executor_of(workers, ray, slurm) as executor:
        made = bench(
            space,
            out,
            executor,
            budget=budget_of(budget),
            fresh=fresh,
            memory_bytes=parse_bytes(memory, "--memory") if memory else None,
            device=device,
            progress=shown_progress(),
            heard=_print_heard,
        )
    board = bench_board(made, f"Blends of {len(experts)} experts")
    _write(board, made, out)
    if as_json:
        print_json(board)
        return
    print_board(board)
    for line in board.notes:
        typer.echo(line)
    typer.echo(f"\n{(out / PAGE).resolve()} ({made.seconds:.0f} s); recipes: {(out / 'recipes').resolve()}")


def _print_heard(raced: "Raced") -> None:
    from cuvee.amounts import points

    outcome = raced.outcome
    if outcome.value is None:
        typer.echo(f"{raced.candidate.name}: failed: {outcome.reason}", err=True)
        return
    end = f"dropped, {outcome.reason}" if outcome.state == "dropped" else f"{outcome.items} items"
    typer.echo(f"{raced.candidate.name}: {points(outcome.value)} ({end})", err=True)


def _write(board: "Leaderboard", made: "Bench", out: Path) -> None:
    """Write the page and a recipe of each blend."""
    from cuvee.report import render_page

    (out / PAGE).write_text(render_page(board), encoding="utf-8")
    recipes = out / "recipes"
    recipes.mkdir(exist_ok=True)
    for entrant in made.entrants:
        if entrant.recipe:
            (recipes / f"{_file_name(entrant.name)}.yaml").write_text(entrant.recipe, encoding="utf-8")


def _file_name(name: str) -> str:
    """Return a name without the characters that file systems or shells treat as special."""
    import re

    return re.sub(r"[^A-Za-z0-9.]+", "-", name)
