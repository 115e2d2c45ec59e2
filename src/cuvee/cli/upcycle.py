"""cuvee upcycle: dense models to a mixture of experts."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cuvee.cores import usable_cores

if TYPE_CHECKING:
    from cuvee.engine.options import RunOptions

NAME = "upcycle"


def command(
    recipe: Path = typer.Argument(
        ..., metavar="RECIPE", help="A recipe in mergekit-moe's words: which models become experts."
    ),
    out: Path = typer.Argument(..., metavar="OUT", help="The folder to write."),
    threads: int = typer.Option(0, min=0, metavar="N", help="Cores to use; 0 for all."),
    shard_size: str = typer.Option("5GB", metavar="SIZE", help="Largest size of one file of weights."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier result at OUT."),
    strict: bool = typer.Option(
        False, "--strict", help="Refuse slips that mergekit passes over, and that else get a warning."
    ),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Write dense models of one shape as a mixture of experts: attention of the base, feed-forward parts of each."""
    from cuvee.cli.amounts import parse_bytes
    from cuvee.cli.merge import print_merge
    from cuvee.cli.progress import shown_progress
    from cuvee.hub import Hub
    from cuvee.plan.resolve import find_model
    from cuvee.recipe.slips import refuse_slips
    from cuvee.upcycle import read_upcycling, upcycle

    asked, text = read_upcycling(recipe)
    if strict:
        refuse_slips(asked.slips)
    hub, progress = Hub(offline=offline), shown_progress()
    models = {model: find_model(model, hub, progress, folder=recipe.parent) for model in asked.models}
    size = parse_bytes(shard_size, "--shard-size")
    workers = threads or usable_cores()
    options: RunOptions = {"threads": workers, "shard_bytes": size, "overwrite": overwrite, "progress": progress}
    made = upcycle(asked, text, models, out, hub=hub, **options)
    print_merge(made, as_json=as_json)
