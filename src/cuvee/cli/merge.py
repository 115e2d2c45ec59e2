"""cuvee merge: a recipe to a model, or several recipes to several models in one pass."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cuvee.cli.executors import CLUSTER_WORKERS, SLURM, cluster_of
from cuvee.cores import usable_cores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cuvee.engine import MergeResult, PartResult
    from cuvee.engine.options import RunOptions
    from cuvee.engine.provenance import Figures
    from cuvee.recipe.recipe import Recipe
    from cuvee.submission.tuned import Tuned

NAME = "merge"

LEAST_TOLD = 0.05
"""Seconds of compiling below which nothing is said of it."""


def command(
    paths: list[Path] = typer.Argument(
        ..., metavar="RECIPE... OUT", help="The recipe, a YAML file, or several; and the folder to write."
    ),
    memory: str = typer.Option(
        "", metavar="SIZE", help="Private memory. Default: 512MB, or room for one matrix per thread if that is more."
    ),
    threads: int = typer.Option(0, min=0, metavar="N", help="Cores to use; 0 for all."),
    device: str = typer.Option(
        "auto", metavar="DEVICE", help="auto, cpu or cuda; auto takes a GPU for whole matrices."
    ),
    shard_size: str = typer.Option("5GB", metavar="SIZE", help="Largest size of one file of weights."),
    part: str = typer.Option(
        "", metavar="I/N", help="Write only part I of N of the output files; run `cuvee join` when all parts are done."
    ),
    ray: str = typer.Option(
        "",
        metavar="ADDRESS",
        help="Merge file by file on the machines of a Ray cluster; auto joins this machine's cluster.",
    ),
    slurm: str = SLURM,
    workers: int = CLUSTER_WORKERS,
    no_resume: bool = typer.Option(
        False, "--no-resume", help="Remove the remains of an interrupted merge to OUT; start anew."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier merge at OUT."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    custom_code: bool = typer.Option(False, "--custom-code", help="Copy the donor's Python files, too."),
    allow_nonfinite: bool = typer.Option(False, "--allow-nonfinite", help="Let NaN and infinity pass."),
    stages: Path | None = typer.Option(
        None, metavar="FOLDER", help="Keep the outputs of earlier stages in this folder, and use them again."
    ),
    strict: bool = typer.Option(
        False, "--strict", help="Refuse slips that mergekit passes over, and that else get a warning."
    ),
    hash_inputs: bool = typer.Option(False, "--hash-inputs", help="Record the SHA-256 of every input file."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Merge the models of RECIPE into the folder OUT, streaming, in bounded memory.

    Run an interrupted merge again to resume it. A RECIPE of several YAML documents is merged in stages: later stages
    use earlier stages by their names.

    Several recipes, and a RECIPE with a `sweep`, are merged in one pass over their models, each into a folder in OUT.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # matrices are merged one a thread; threads beside would wait
    from cuvee.api import load_recipe, load_stages
    from cuvee.cli.amounts import parse_bytes, parse_part
    from cuvee.cli.cache import cache_folder
    from cuvee.cli.progress import shown_progress
    from cuvee.cli.sweep import is_sweep, swept
    from cuvee.errors import RecipeError
    from cuvee.hub import Hub

    options: RunOptions = {
        "memory_bytes": parse_bytes(memory, "--memory") if memory else None,
        "shard_bytes": parse_bytes(shard_size, "--shard-size"),
        "threads": threads or usable_cores(),
        "overwrite": overwrite,
        "resume": not no_resume,
        "allow_nonfinite": allow_nonfinite,
        "hash_inputs": hash_inputs,
        "device": device,
        "progress": shown_progress(),
        "cache": cache_folder() / "surveys",
    }
    hub = Hub(offline=offline)
    recipe, out = _split(paths)
    if workers and not ray and not slurm:
        raise RecipeError("--workers is for --ray and --slurm", hint="--threads says how many cores merge here")
    if len(paths) > 2 or is_sweep(recipe):
        from cuvee.engine import merge_together

        _refuse_with_several({"--part": part, "--ray": ray, "--slurm": slurm, "--stages": stages})
        recipes_by_name = swept(paths[:-1], strict=strict)
        outputs = merge_together(recipes_by_name, out, hub=hub, custom_code=custom_code, **options)
        print_merges(outputs, as_json=as_json)
        for name, made in outputs.items():
            if recipes_by_name[name].sliced:
                _refuse_other_layers(made.folder)
        return
    if part and (ray or slurm):
        cluster = "--ray" if ray else "--slurm"
        raise RecipeError(f"--part is one part of a merge, and {cluster} does all of them", hint="give one of the two")
    if part:
        from cuvee.engine import merge_part

        whole = load_recipe(recipe, strict=strict)
        done = merge_part(whole, out, parse_part(part, "--part"), hub=hub, custom_code=custom_code, **options)
        print_part(done, out, as_json=as_json)
        return
    if ray or slurm:
        whole = load_recipe(recipe, strict=strict)
        options["threads"] = threads or 1
        options["cache"] = None  # it is this machine's
        from cuvee.engine.by_shards import merge_by_shards

        with cluster_of(workers, ray, slurm) as executor:
            joined = merge_by_shards(whole, out, executor, offline=offline, custom_code=custom_code, **options)
        print_merge(joined, as_json=as_json)
        return
    recipes = load_stages(recipe, strict=strict)
    from cuvee.submission.tuning import texts_near

    texts = texts_near(recipes)
    if texts:
        from cuvee.submission.tuned import merge_tuned

        tuned = merge_tuned(recipes, out, texts, hub=hub, custom_code=custom_code, **options)
        print_tuned(tuned, as_json=as_json)
        return
    if recipes[-1].align is not None:
        from cuvee.calibrate.repair import merge_aligned
        from cuvee.cli.align import print_aligned

        _check_single(recipes)
        print_aligned(merge_aligned(recipes[0], out, hub=hub, custom_code=custom_code, **options), as_json=as_json)
        return
    from cuvee.engine import merge_stages

    result = merge_stages(recipes, out, folder=stages, hub=hub, custom_code=custom_code, **options)
    print_merge(result, as_json=as_json)
    if recipes[-1].sliced:
        _refuse_other_layers(result.folder)


def _split(paths: "Sequence[Path]") -> tuple[Path, Path]:
    """Return the first recipe and the output. Raises RecipeError if one is missing."""
    from cuvee.errors import RecipeError

    if len(paths) < 2:
        hint = "cuvee merge RECIPE OUT; several recipes, each into a folder in OUT: cuvee merge A.yaml B.yaml OUT"
        raise RecipeError(f"expected a recipe and the folder to write, found only '{paths[0]}'", hint=hint)
    return paths[0], paths[-1]


def _refuse_with_several(options: "Mapping[str, object]") -> None:
    """Raise RecipeError for an option that is for one recipe."""
    from cuvee.errors import RecipeError

    for name, value in options.items():
        if value:
            raise RecipeError(f"{name} is for one recipe, and these are several", hint="merge them one by one with it")


def _check_single(recipes: "Sequence[Recipe]") -> None:
    """Raise RecipeError for `align` in a recipe of several stages."""
    from cuvee.errors import RecipeError

    if len(recipes) > 1:
        message = f"'align' is for a recipe of one stage, and this has {len(recipes)}"
        raise RecipeError(message, where=recipes[-1].source, hint="merge first, and use `cuvee align` then")


def _refuse_other_layers(folder: Path) -> None:
    """Raise CheckpointError if a layer that slices moved is of another kind now, by its family's rules and classes."""
    from cuvee.errors import CheckpointError
    from cuvee.verify import verify_layers

    check = verify_layers(folder)
    if check.state == "failed":
        hint = "do not use the output; keep each layer at its place, or take whole periods of layers"
        raise CheckpointError(f"moved layers do not do what they did: {check.found}", where=str(folder), hint=hint)


def run_options(memory: str, threads: int, *, overwrite: bool) -> "RunOptions":
    """Return the options of a merge from those that a command takes; `threads` 0 means all cores."""
    from cuvee.cli.amounts import parse_bytes
    from cuvee.cli.progress import shown_progress

    return {
        "memory_bytes": parse_bytes(memory, "--memory"),
        "threads": threads or usable_cores(),
        "overwrite": overwrite,
        "progress": shown_progress(),
    }


def print_merge(result: "MergeResult", *, as_json: bool) -> None:
    """Show a finished merge: the digest on stdout, the rest on stderr; or all of it as JSON."""
    if as_json:
        typer.echo(_json(asdict(result) | {"folder": str(result.folder)}))
        return
    _print_took(str(result.folder), result.figures, result.warnings, result.notes)
    if result.figures.cast_loss is not None:
        typer.echo(f"the final cast lost {result.figures.cast_loss:.1%} of the change from the base", err=True)
    typer.echo(f"weights digest {result.digest}")


def print_merges(results: "Mapping[str, MergeResult]", *, as_json: bool) -> None:
    """Show the merges of one pass: a digest for each output on stdout, the rest on stderr; or all of it as JSON."""
    if as_json:
        outputs = {name: asdict(result) | {"folder": str(result.folder)} for name, result in results.items()}
        typer.echo(_json({"outputs": outputs}))
        return
    from cuvee.cli.amounts import bytes_text

    for name, result in results.items():
        _print_notes(result.warnings, result.notes, f"{name}: ")
    figures = [result.figures for result in results.values()]
    written = bytes_text(sum(own.bytes_written for own in figures))
    typer.echo(f"{len(figures)} outputs, {written} in {max(own.seconds for own in figures):.2f} s", err=True)
    for name, result in results.items():
        typer.echo(f"{name}: weights digest {result.digest}")


def print_tuned(tuned: "Tuned", *, as_json: bool) -> None:
    """Show a finished merge that read texts of a competition, aligned or not."""
    from cuvee.cli.align import print_aligned
    from cuvee.engine import MergeResult

    if isinstance(tuned.outcome, MergeResult):
        print_merge(tuned.outcome, as_json=as_json)
    else:
        print_aligned(tuned.outcome, as_json=as_json)


def print_part(result: "PartResult", out: Path, *, as_json: bool) -> None:
    """Show a finished part, and the parts that are missing."""
    missing = [str(part) for part in result.missing]
    if as_json:
        typer.echo(_json(asdict(result) | {"part": str(result.part), "missing": missing}))
        return
    what = f"part {result.part} of {out}, {result.tensors} tensors"
    _print_took(what, result.figures, result.warnings, result.notes)
    then = f"join them with `cuvee join {out}`"
    typer.echo(f"missing parts: {', '.join(missing)}; then {then}" if missing else f"all parts are there; {then}")


def _print_took(what: str, figures: "Figures", warnings: tuple[str, ...], notes: tuple[str, ...]) -> None:
    from cuvee.cli.amounts import bytes_text

    rate = (figures.bytes_read + figures.bytes_written) / max(figures.seconds, 1e-9)
    _print_notes(warnings, notes)
    typer.echo(f"{what}: {bytes_text(figures.bytes_written)} in {figures.seconds:.2f} s", err=True)
    if figures.compile_seconds >= LEAST_TOLD:
        typer.echo(f"besides, {figures.compile_seconds:.1f} s to compile kernels for this machine, once", err=True)
    typer.echo(
        f"read {bytes_text(figures.bytes_read)}, {bytes_text(rate)}/s in all, "
        f"peak private memory {bytes_text(figures.peak_memory_bytes)}",
        err=True,
    )


def _print_notes(warnings: tuple[str, ...], notes: tuple[str, ...], of: str = "") -> None:
    for warning in warnings:
        typer.echo(f"warning: {of}{warning}", err=True)
    for note in notes:
        typer.echo(f"note: {of}{note}", err=True)


def _json(content: dict[str, object]) -> str:
    import json

    return json.dumps(content, indent=2)
