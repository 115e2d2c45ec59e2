"""cuvee join: the parts of a split merge to a model."""

from pathlib import Path

import typer

NAME = "join"


def command(
    out: Path = typer.Argument(..., metavar="OUT", help="The folder that the parts were made for."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier merge at OUT."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Check that all parts of a split merge are there and belong together, and make them the folder OUT."""
    from cuvee.cli.merge import print_merge
    from cuvee.engine import join

    print_merge(join(out, overwrite=overwrite), as_json=as_json)
