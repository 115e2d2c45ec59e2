"""cuvee adapters: LoRA in, LoRA or full model out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cuvee.cores import usable_cores

if TYPE_CHECKING:
    from cuvee.comparison.adapters import AdapterComparison
    from cuvee.engine.combine import AdapterResult
    from cuvee.verify.adapter import AdapterCheck

NAME = "adapters"
USUAL_RANK = 16
ROUNDING = 1e-12
"""A share of the energy that is no more than this was not discarded, but lost in rounding."""

app = typer.Typer(help="Combine, apply, extract and compare LoRA adapters.", no_args_is_help=True)

_OFFLINE = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has.")
_OVERWRITE = typer.Option(False, "--overwrite", help="Replace an earlier result at OUT.")
_THREADS = typer.Option(0, min=0, metavar="N", help="Cores to use; 0 for all.")
_JSON = typer.Option(False, "--json", help="Print the result as JSON.")
_SHARD_SIZE = typer.Option(
    "", metavar="SIZE", help="Largest size of one file of weights; without it there is one, as PEFT loads it."
)
_DTYPE = typer.Option("float32", metavar="TYPE", help="Type of the written factors.")


@app.command("combine")
def combine(
    adapters: list[str] = typer.Argument(..., metavar="ADAPTER...", help="Folders or org/name[@revision]."),
    out: Path = typer.Option(..., "--out", metavar="OUT", help="The folder to write."),
    weights: str = typer.Option("", metavar="W,W...", help="A weight for each adapter; 1/N each without it."),
    rank: int | None = typer.Option(
        None, min=1, metavar="N", help="Largest rank of a module; without it nothing is discarded."
    ),
    energy: float | None = typer.Option(
        None, metavar="SHARE", help="Part of each module's energy to keep, such as 0.99."
    ),
    method: str = typer.Option(
        "task_arithmetic", metavar="METHOD", help="A merge method, legacy_lora_average or lorahub_product."
    ),
    space: str = typer.Option(
        "", metavar="NAME", help="dense, knots or core; without it the one that fits the method."
    ),
    settings: list[str] = typer.Option([], "--set", metavar="NAME=VALUE", help="A setting of the method."),
    base: str = typer.Option("", metavar="MODEL", help="The base, for whole tensors, experts, DoRA and other kinds."),
    seed: int = typer.Option(0, min=0, metavar="N", help="What random draws depend on."),
    dtype: str = _DTYPE,
    shard_size: str = _SHARD_SIZE,
    threads: int = _THREADS,
    overwrite: bool = _OVERWRITE,
    offline: bool = _OFFLINE,
    as_json: bool = _JSON,
) -> None:
    """Combine adapters of one base into one that PEFT loads: exactly, or to a rank or a part of the energy."""
    from cuvee.adapters.low_rank import Wanted
    from cuvee.cli.amounts import parse_bytes, parse_numbers, parse_settings
    from cuvee.cli.progress import shown_progress
    from cuvee.engine.adapters import combine_adapters
    from cuvee.engine.combine import How
    from cuvee.errors import RecipeError
    from cuvee.hub import Hub

    if space not in ("", "dense", "knots", "core"):
        raise RecipeError(f"--space: expected dense, knots or core, found '{space}'")
    numbers = parse_numbers(weights, "--weights") if weights else [1 / len(adapters)] * len(adapters)
    shard_bytes = parse_bytes(shard_size, "--shard-size") if shard_size else None
    chosen = parse_settings(settings, "--set")
    how = How(method, space or None, Wanted(rank, energy), chosen, seed, dtype, shard_bytes)  # type: ignore[arg-type]  # seen above
    options: dict[str, Any] = {"threads": threads or usable_cores(), "overwrite": overwrite}
    hub, progress = Hub(offline=offline), shown_progress()
    print_adapter(
        combine_adapters(adapters, numbers, out, how, base=base, hub=hub, progress=progress, **options), as_json
    )


@app.command("apply")
def apply(
    base: str = typer.Argument(..., metavar="BASE", help="The model that the adapter was trained on."),
    adapter: str = typer.Argument(..., metavar="ADAPTER", help="A folder or org/name[@revision]."),
    out: Path = typer.Argument(..., metavar="OUT", help="The folder to write."),
    memory: str = typer.Option("512MB", metavar="SIZE", help="Private memory that it may take."),
    threads: int = _THREADS,
    overwrite: bool = _OVERWRITE,
    offline: bool = _OFFLINE,
    as_json: bool = _JSON,
) -> None:
    """Write BASE with ADAPTER added to its weights: a full model, streamed, in the types of the base."""
    from cuvee.cli.merge import print_merge, run_options
    from cuvee.engine.adapters import apply_adapter
    from cuvee.hub import Hub

    options = run_options(memory, threads, overwrite=overwrite)
    print_merge(apply_adapter(base, adapter, out, hub=Hub(offline=offline), **options), as_json=as_json)


@app.command("bake")
def bake(
    model: str = typer.Argument(..., metavar="MODEL", help="A model that was saved with an adapter inside."),
    out: Path = typer.Argument(..., metavar="OUT", help="The folder to write."),
    alpha: float | None = typer.Option(
        None, metavar="N", help="The adapter's alpha, where MODEL has no adapter_config.json."
    ),
    rslora: bool = typer.Option(False, "--rslora", help="The scale is alpha / sqrt(rank); only with --alpha."),
    memory: str = typer.Option("512MB", metavar="SIZE", help="Private memory that it may take."),
    threads: int = _THREADS,
    overwrite: bool = _OVERWRITE,
    offline: bool = _OFFLINE,
    as_json: bool = _JSON,
) -> None:
    """Write a plain model from MODEL, whose files hold `base_layer` and `lora_A` side by side."""
    from cuvee.cli.merge import print_merge, run_options
    from cuvee.engine.bake import bake_adapter
    from cuvee.hub import Hub

    options = run_options(memory, threads, overwrite=overwrite)
    made = bake_adapter(model, out, alpha=alpha, rslora=rslora, hub=Hub(offline=offline), **options)
    print_merge(made, as_json=as_json)


@app.command("extract")
def extract(
    model: str = typer.Argument(..., metavar="MODEL", help="The fine-tuned model."),
    base: str = typer.Argument(..., metavar="BASE", help="The model that it was trained from."),
    out: Path = typer.Argument(..., metavar="OUT", help="The folder to write."),
    rank: int | None = typer.Option(None, min=1, metavar="N", help="Rank of each module; 16 if nothing else is said."),
    energy: float | None = typer.Option(
        None, metavar="SHARE", help="Part of each module's energy to keep, such as 0.99."
    ),
    budget: int | None = typer.Option(
        None, min=1, metavar="N", help="Sum of all ranks, given to the strongest directions."
    ),
    embeddings: bool = typer.Option(False, "--embeddings", help="Embeddings and heads get factors, too."),
    skip_rest: bool = typer.Option(False, "--skip-rest", help="Leave out what is no matrix; else it is saved whole."),
    only: str = typer.Option("", metavar="PART,...", help="Parts to extract, such as attention,norms or q_proj."),
    without: str = typer.Option("", metavar="PART,...", help="Parts to leave out, such as embeddings or vision."),
    check: bool | None = typer.Option(
        None,
        "--check/--no-check",
        help="Let PEFT load the result and compare logits; without either, where PEFT is installed.",
        show_default=False,
    ),
    dtype: str = _DTYPE,
    shard_size: str = _SHARD_SIZE,
    threads: int = _THREADS,
    overwrite: bool = _OVERWRITE,
    offline: bool = _OFFLINE,
    as_json: bool = _JSON,
) -> None:
    """Write an adapter that turns BASE into nearly MODEL, and say how much of each module's change it keeps."""
    from cuvee.adapters.low_rank import Wanted
    from cuvee.cli.amounts import parse_bytes
    from cuvee.cli.progress import shown_progress
    from cuvee.engine.extract import Extraction
    from cuvee.engine.model_parts import Parts
    from cuvee.errors import RecipeError
    from cuvee.hub import Hub
    from cuvee.verify.adapter import extract_checked

    wanted = Wanted(rank, energy)
    if budget is not None and wanted != Wanted():
        raise RecipeError("--budget decides the ranks by itself; it goes with neither --rank nor --energy")
    if budget is None and wanted == Wanted():
        wanted = Wanted(USUAL_RANK)
    parts = Parts(_words(only), _words(without))
    shard_bytes = parse_bytes(shard_size, "--shard-size") if shard_size else None
    how = Extraction(wanted, budget, embeddings, not skip_rest, dtype, parts, shard_bytes)
    options: dict[str, Any] = {"threads": threads or usable_cores(), "overwrite": overwrite}
    hub, progress = Hub(offline=offline), shown_progress()
    result, found = extract_checked(model, base, out, how, check=check, hub=hub, progress=progress, **options)
    print_adapter(result, as_json, found)


@app.command("compare")
def compare(
    adapters: list[str] = typer.Argument(..., metavar="ADAPTER ADAPTER...", help="Folders or org/name[@revision]."),
    base: str = typer.Option("", metavar="MODEL", help="The base, for experts, DoRA and other kinds."),
    offline: bool = _OFFLINE,
    as_json: bool = typer.Option(False, "--json", help="Print every figure, of each module too, as JSON."),
) -> None:
    """Show adapters side by side: ranks, norms, cosines between their changes, directions that they share."""
    from cuvee.cli.progress import shown_progress
    from cuvee.comparison.adapters import compare_adapters
    from cuvee.hub import Hub

    found = compare_adapters(adapters, base=base, hub=Hub(offline=offline), progress=shown_progress())
    if as_json:
        import json

        typer.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        _print_comparison(found)


@app.command("list")
def list_(
    folder: Path = typer.Argument(..., metavar="FOLDER", help="A folder of adapters, or an adapter."),
    as_json: bool = _JSON,
) -> None:
    """List the adapters of a folder: kind, rank, modules, base, size, and energy, the squared norm of the change."""
    from cuvee.comparison.adapter_list import list_adapters

    listed = list_adapters(folder)
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps([asdict(one) for one in listed], indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("adapter", "kind"):
        table.add_column(column)
    for column in ("rank", "modules", "size", "energy"):
        table.add_column(column, justify="right")
    table.add_column("base")
    for one in listed:
        ranks = "-".join(dict.fromkeys(map(str, (one.ranks[0], one.ranks[-1])))) if one.ranks else "-"
        energy = "-" if one.energy is None else f"{one.energy:.4g}"
        size = f"{one.nbytes / 1e6:.3g} MB"
        table.add_row(escape(one.name), one.kind, ranks, str(one.modules), size, energy, escape(one.base or "-"))
        if one.problem is not None:
            typer.echo(f"cannot read {one.name}: {one.problem}", err=True)
    Console().print(table)


def _words(text: str) -> tuple[str, ...]:
    """Return the words between commas."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def print_adapter(result: "AdapterResult", as_json: bool, check: "AdapterCheck | None" = None) -> None:
    """Show a written adapter: the digest on stdout, the rest on stderr; or all of it as JSON."""
    modules = result.modules
    if as_json:
        import json

        listed = [
            {"module": m.module, "rank": m.rank, "energy_kept": m.share, "energy": m.energy, "total": m.total}
            for m in modules
        ]
        content = {
            "folder": str(result.folder), "digest": result.digest, "energy_discarded": result.discarded,
            "seconds": result.seconds, "warnings": list(result.warnings), "notes": list(result.notes),
            "modules": listed,
            "check": None if check is None else {"state": check.state, "found": check.found, "error": check.error},
        }  # fmt: skip
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    for warning in result.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    ranks = [module.rank for module in modules]
    spread = f"rank {ranks[0]}" if ranks else ""
    if len(set(ranks)) > 1:
        spread = f"ranks {min(ranks)} to {max(ranks)}"
    typer.echo(f"{result.folder}: {len(modules)} modules, {spread}, in {result.seconds:.2f} s", err=True)
    discarded = result.discarded if result.discarded > ROUNDING else 0.0
    typer.echo(f"energy discarded: {discarded:.2e} of the whole", err=True)
    for module in sorted(modules, key=lambda m: m.share)[:3] if result.discarded > 1e-9 else ():
        typer.echo(f"  {module.module}: rank {module.rank} keeps {module.share:.2%}", err=True)
    if check is not None:
        typer.echo(f"{'not checked' if check.state == 'skipped' else 'checked'}: {check.found}", err=True)
    typer.echo(f"weights digest {result.digest}")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _print_comparison(found: "AdapterComparison") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table(box=None, pad_edge=False)
    table.add_column("adapter")
    for column in ("modules", "rank", "whole tensors", "norm"):
        table.add_column(column, justify="right")
    table.add_column("base")
    for i, one in enumerate(found.adapters):
        ranks = "-".join(dict.fromkeys(map(str, (one.ranks[0], one.ranks[-1])))) if one.ranks else "-"
        numbers = (str(one.modules), ranks, str(one.whole_tensors), f"{one.norm:.4g}")
        table.add_row(escape(f"{i + 1} {one.name}"), *numbers, escape(one.base or "-"))
    console.print(table)
    pairs = Table(box=None, pad_edge=False)
    pairs.add_column("pair")
    for column in ("cosine", "shared modules", "shared outputs", "shared inputs"):
        pairs.add_column(column, justify="right")
    for pair in found.pairs:
        cosine, *shares = map(_figure, (pair.cosine, pair.outputs, pair.inputs))
        pairs.add_row(f"{pair.first + 1} and {pair.second + 1}", cosine, str(pair.shared_modules), *shares)
    if found.pairs:
        console.print()
        console.print(pairs)
