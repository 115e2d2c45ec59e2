"""cuvee verify: whether a merged model agrees with its cuvee.json, and works."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from cuvee.verify import Verification

NAME = "verify"
STYLES = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


def command(
    model: str = typer.Argument(..., metavar="MODEL", help="The folder that a merge wrote, or its name on a hub."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Check a merged MODEL: digests, numbers, shapes, parents, loading and answers. Exits with 3 if a check fails.

    Looks for parents where the recipe has them; without parents it skips the checks that need them.
    """
    from cuvee.cli.progress import shown_progress
    from cuvee.hub import Hub
    from cuvee.plan.resolve import folder_of
    from cuvee.verify import verify

    hub, progress = Hub(offline=offline), shown_progress()
    place = folder_of(model, hub, progress)
    found = verify(place, hub=hub, progress=progress)
    if as_json:
        import json
        from dataclasses import asdict

        plain = asdict(found) | {"folder": str(found.folder), "passed": not found.failed}
        typer.echo(json.dumps(plain, indent=2, ensure_ascii=False))
    else:
        _print(found)
    if found.failed:
        raise typer.Exit(3)


def _print(found: "Verification") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column()
    table.add_column(overflow="fold")
    for check in found.checks:
        table.add_row(Text(check.name), Text(check.state, STYLES[check.state]), Text(check.found))
    Console(highlight=False).print(table)
