"""cuvee doctor: whether a model is broken, and how."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from cuvee.doctor import Diagnosis, Signs

NAME = "doctor"
BROKEN = 3
STYLES = {"sound": "green", "doubtful": "yellow", "broken": "bold red"}


def command(
    model: str = typer.Argument(..., metavar="MODEL", help="A model's folder, or its name on a hub."),
    text: Path | None = typer.Option(
        None, metavar="FILE", help="Passages to read, with blank lines between; a few are built in."
    ),
    device: str = typer.Option("auto", metavar="DEVICE", help="auto, cpu or cuda."),
    dtype: str = typer.Option("float32", metavar="TYPE", help="float32, bfloat16 or float16."),
    recipe_folder: Path | None = typer.Option(
        None, metavar="FOLDER", help="Where the recipe lay, if its parents are not found."
    ),
    seconds: float = typer.Option(40.0, min=0, metavar="SECONDS", help="After these no further parent is taken up."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print every figure as JSON."),
) -> None:
    """Say whether MODEL is broken, and how: perplexity, collapse, distance to its parents. Exits with 3 if it is."""
    from cuvee.cli.progress import shown_progress
    from cuvee.doctor import examine
    from cuvee.hub import Hub
    from cuvee.plan.resolve import folder_of

    progress, hub = shown_progress(), Hub(offline=offline)
    found = examine(
        folder_of(model, hub, progress),
        text=text,
        device=device,  # type: ignore[arg-type]  # load_model checks it
        dtype=dtype,  # type: ignore[arg-type]  # load_model checks it
        hub=hub,
        recipe_folder=recipe_folder,
        seconds=seconds,
        progress=progress,
    )
    if as_json:
        import json

        typer.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        _print(found)
    if found.verdict == "broken":
        raise typer.Exit(BROKEN)


def _print(found: "Diagnosis") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cuvee.report import short_names

    names = short_names([found.model, *(each.parent for each in found.parents)])
    table = Table(box=None, pad_edge=False)
    table.add_column("model")
    for column in ("perplexity", "bits a byte", "entropy", "repeated", "divergence", "same next token"):
        table.add_column(column, justify="right")
    table.add_row(*map(Text, (names[0], *_figures(found.signs), "", "")), style="bold")
    for name, each in zip(names[1:], found.parents, strict=True):
        apart = (_number(each.divergence), "-" if each.agreement is None else f"{each.agreement:.0%}")
        table.add_row(*map(Text, (name, *_figures(each.signs), *apart)))
    console = Console()
    console.print(table)
    for prompt, continuation in found.samples:
        console.print(Text(f"{prompt!r} -> {continuation!r}"), style="dim", soft_wrap=True)
    for note in found.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)
    console.print(Text(f"{found.verdict} ({found.seconds:.0f} s)"), style=STYLES[found.verdict])
    for finding in found.findings:
        console.print(Text(f"  {finding.severity}: {finding.message}"), soft_wrap=True)


def _figures(signs: "Signs") -> tuple[str, ...]:
    return _number(signs.perplexity), _number(signs.bits_per_byte), _number(signs.entropy), f"{signs.repetition:.0%}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
