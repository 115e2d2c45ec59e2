"""cuvee merge: a recipe to a model."""

import os
from pathlib import Path

import typer

NAME = "merge"


def command(
    recipe: Path = typer.Argument(..., metavar="RECIPE", help="The recipe, a YAML file."),
    out: Path = typer.Argument(..., metavar="OUT", help="The folder to write."),
    memory: str = typer.Option("512MB", help="Private memory that the merge may take."),
    threads: int = typer.Option(0, min=0, help="Workers; 0 for one a core."),
    shard_size: str = typer.Option("5GB", help="Largest size of one file of weights."),
    no_resume: bool = typer.Option(False, "--no-resume", help="Remove what a stopped merge to OUT left; start anew."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier merge at OUT."),
    allow_nonfinite: bool = typer.Option(False, "--allow-nonfinite", help="Let NaN and infinity pass."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Merge the models of RECIPE into the folder OUT, streaming, in bounded memory. Goes on where it was stopped."""
    from cuvee.api import load_recipe
    from cuvee.cli.amounts import parse_bytes
    from cuvee.cli.progress import shown_progress
    from cuvee.engine import merge

    result = merge(
        load_recipe(recipe),
        out,
        memory_bytes=parse_bytes(memory, "--memory"),
        shard_bytes=parse_bytes(shard_size, "--shard-size"),
        threads=threads or os.cpu_count() or 1,
        overwrite=overwrite,
        resume=not no_resume,
        allow_nonfinite=allow_nonfinite,
        progress=shown_progress(),
    )
    if as_json:
        _print_json(result)
    else:
        _print(result)


def _print_json(result: object) -> None:
    import json
    from dataclasses import asdict

    from cuvee.engine import MergeResult

    assert isinstance(result, MergeResult), "what merge returns"
    content = asdict(result) | {"folder": str(result.folder)}
    typer.echo(json.dumps(content, indent=2))


def _print(result: object) -> None:
    from cuvee.cli.amounts import bytes_text
    from cuvee.engine import MergeResult

    assert isinstance(result, MergeResult), "what merge returns"
    figures = result.figures
    rate = (figures.bytes_read + figures.bytes_written) / max(figures.seconds, 1e-9)
    for warning in result.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"{result.folder}: {bytes_text(figures.bytes_written)} in {figures.seconds:.2f} s", err=True)
    typer.echo(
        f"read {bytes_text(figures.bytes_read)}, {bytes_text(rate)}/s in all, "
        f"peak private memory {bytes_text(figures.peak_memory_bytes)}",
        err=True,
    )
    if figures.cast_loss is not None:
        typer.echo(f"the final cast lost {figures.cast_loss:.1%} of the change from the base", err=True)
    typer.echo(f"weights digest {result.digest}")
