"""cuvee compare: the changes of models to their base, side by side."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cuvee.cores import usable_cores

if TYPE_CHECKING:
    from cuvee.comparison import Comparison

NAME = "compare"


def command(
    models: list[str] = typer.Argument(..., metavar="MODEL...", help="Models; the first is the base unless --base is."),
    base: str = typer.Option("", metavar="MODEL", help="The model that the others were trained from."),
    page: Path | None = typer.Option(None, "--out", metavar="FILE", help="Write heat maps to this HTML file."),
    threads: int = typer.Option(0, min=0, metavar="N", help="Workers; 0 for one a core."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print every figure, of each tensor too, as JSON."),
) -> None:
    """Show the task vectors of models side by side: norms, cosines, sign conflicts, overlap, by layer and role."""
    from cuvee.cli.page import check_page, write_page
    from cuvee.cli.progress import shown_progress
    from cuvee.comparison import compare
    from cuvee.hub import Hub
    from cuvee.report import render_comparison

    if page is not None:
        check_page(page)
    workers = threads or usable_cores()
    hub = Hub(offline=offline)
    found = compare(models, base=base or None, threads=workers, hub=hub, progress=shown_progress())
    if page is not None:
        write_page(render_comparison(found), page)
    if as_json:
        import json

        typer.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        _print(found)


def _print(found: "Comparison") -> None:
    from rich.console import Console

    from cuvee.cli.comparison_table import comparison_lines

    console = Console()
    for line in comparison_lines(found, console.width):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    for tensor in found.left_out[:5]:
        typer.echo(f"left out: {tensor.tensor}, {tensor.reason}", err=True)
    if len(found.left_out) > 5:
        typer.echo(f"left out: {len(found.left_out) - 5} more tensors, which --json lists", err=True)
