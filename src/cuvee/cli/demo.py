"""cuvee demo: the whole job on the bundled models."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from cuvee.report import Leaderboard
    from cuvee.showcase import FirstVerdict

NAME = "demo"


def command(
    out: Path = typer.Argument(Path("cuvee-demo"), metavar="[OUT]", help="The folder to write."),
    as_json: bool = typer.Option(False, "--json", help="Print the ranking as JSON."),
) -> None:
    """Blend the bundled models, measure each of them, rank them, write OUT/index.html."""
    from cuvee.cli.progress import shown_progress
    from cuvee.showcase import run_demo

    made = run_demo(out, progress=shown_progress(), first=_print_first)
    if as_json:
        print_json(made.leaderboard)
        return
    print_board(made.leaderboard)
    typer.echo(f"\n{made.page.resolve()} ({made.seconds:.0f} s)")


def _print_first(verdict: "FirstVerdict") -> None:
    typer.echo(f"A first verdict: {verdict.sentence}", err=True)
    typer.echo("Now the other blends; the ranking is by private items, which no blend is chosen on.", err=True)


def print_json(board: "Leaderboard") -> None:
    """Show a ranking to a program."""
    import json
    from dataclasses import asdict

    typer.echo(json.dumps(asdict(board), indent=2, ensure_ascii=False))


def print_board(board: "Leaderboard") -> None:
    """Show a ranking with its verdict."""
    from rich.console import Console
    from rich.table import Table

    from cuvee.amounts import points
    from cuvee.report import rows, verdict_sentence
    from cuvee.report.leaderboard import interval

    table = Table(box=None, pad_edge=False, padding=(0, 1), title="Macro average of all tasks, %", title_justify="left")
    for column in ("rank", "model"):
        table.add_column(column, no_wrap=True)
    table.add_column("method")
    for column in ("private", "interval", "public"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows(board):
        style = "" if row.kind == "blend" else "dim"
        if row.mark:
            style = "bold"
        figures = (points(row.private.value), interval(row.private), points(row.public.value))
        table.add_row(row.rank, row.name, row.method or f"({row.kind})", *figures, row.mark, style=style)
    console = Console(highlight=False)
    console.print(table)
    ranks = "Ranks are by the private part; models that share ranks are tied. Intervals are of 95 %."
    console.print(f"\n{ranks}", soft_wrap=True)
    console.print(verdict_sentence(board), soft_wrap=True)
