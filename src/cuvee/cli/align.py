"""cuvee align: a merge repaired by a little text of each of its experts."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cuvee.cores import usable_cores

if TYPE_CHECKING:
    from cuvee.calibrate.outcome import Aligned

NAME = "align"


def command(
    merged: str = typer.Argument(..., metavar="MERGED", help="The merge to repair: a folder."),
    out: Path = typer.Argument(..., metavar="OUT", help="The folder to write."),
    expert: list[str] = typer.Option(
        ..., "--expert", metavar="MODEL=TEXT", help="An expert and its text: .txt, .jsonl, task.yaml or a task's name."
    ),
    base: str = typer.Option("", metavar="MODEL", help="The base of the merge; needed for --push."),
    preset: str = typer.Option("align", metavar="NAME", help="align, or regmean_pp for RegMean++."),
    mix: float | None = typer.Option(
        None, metavar="SHARE", help="Part of the expert's own inputs in its targets; 0.5."
    ),
    ridge: str = typer.Option("", metavar="NUMBER", help="How strongly weights stay at the merge; auto tries three."),
    push: float | None = typer.Option(
        None, metavar="NUMBER", help="How far the anchor goes from the base; 1, the merge."
    ),
    off_diagonal: float | None = typer.Option(None, metavar="SHARE", help="Off-diagonal part of Gram matrices; 1."),
    positions: str = typer.Option("all", metavar="WHICH", help="all, answer or prompt positions of the text."),
    tokens: int | None = typer.Option(None, min=1, metavar="N", help="Tokens of each expert's text at most; 16384."),
    length: int | None = typer.Option(None, min=2, metavar="N", help="Tokens of a document at most; 512."),
    inside: str = typer.Option(
        "merged", metavar="WHOSE", help="Whose block sees the states before it: merged or expert."
    ),
    one_by_one: bool = typer.Option(False, "--one-by-one", help="Solve a block's inputs in turn."),
    as_adapter: int | None = typer.Option(
        None, "--as-adapter", min=1, metavar="RANK", help="Write the repair as a LoRA adapter of MERGED."
    ),
    report: Path | None = typer.Option(
        None, metavar="FILE", help="Write a page on where the merge hurt: before, after."
    ),
    memory: str = typer.Option("", metavar="SIZE", help="Private memory that it may take."),
    threads: int = typer.Option(0, min=0, metavar="N", help="Cores to use; 0 for all."),
    no_resume: bool = typer.Option(
        False, "--no-resume", help="Remove the remains of an interrupted run to OUT; start anew."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier result at OUT."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Repair MERGED with a little text of each expert: its linear maps are solved anew to answer as the experts do.

    Repairs are calculated on the CPU, also where there is a GPU.
    """
    from cuvee.calibrate.repair import align
    from cuvee.calibrate.settings import alignment
    from cuvee.cli.amounts import parse_bytes
    from cuvee.cli.experts import experts_in
    from cuvee.cli.progress import shown_progress
    from cuvee.hub import Hub

    if report is not None:
        from cuvee.cli.page import check_page

        check_page(report)
    asked = {
        "mix": mix,
        "ridge": _ridge(ridge) if ridge else None,
        "push": push,
        "off_diagonal": off_diagonal,
        "tokens": tokens,
        "length": length,
        "positions": positions,
        "inside": inside,
        "one_by_one": one_by_one,
    }
    how = alignment(preset, **{name: value for name, value in asked.items() if value is not None})
    options: dict[str, Any] = {
        "memory_bytes": parse_bytes(memory, "--memory") if memory else None,
        "threads": threads or usable_cores(),
        "resume": not no_resume,
        "overwrite": overwrite,
        "hub": Hub(offline=offline),
        "progress": shown_progress(),
        "adapter_rank": as_adapter,
        "compares": report is not None,
        "base": base or None,
    }
    aligned = align(merged, out, experts_in(expert), how, **options)
    if report is not None:
        from cuvee.cli.page import write_page
        from cuvee.report.alignment import render_alignment

        write_page(render_alignment(aligned, merged), report)
    print_aligned(aligned, as_json=as_json)


def _ridge(text: str) -> Any:
    from cuvee.errors import RecipeError

    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise RecipeError(f"--ridge: expected auto or a number, found '{text}'") from None


def print_aligned(aligned: "Aligned", *, as_json: bool) -> None:
    """Show a finished repair: the digest on stdout, the rest on stderr; or all of it as JSON."""
    if as_json:
        _print_json(aligned)
        return
    from cuvee.cli.amounts import bytes_text
    from cuvee.engine.combine import AdapterResult

    for warning in aligned.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for text in aligned.texts:
        typer.echo(f"{text.expert}: {text.documents} documents, {text.positions} positions of {text.text}", err=True)
    for ridge, divergence in aligned.divergences.items():
        is_chosen = ridge == f"{aligned.ridge:g}" and len(aligned.divergences) > 1
        chosen = " (chosen)" if is_chosen else ""
        what = "before" if ridge == "before" else f"ridge {ridge}"
        typer.echo(f"divergence from the experts on held-out text, {what}: {divergence:.4f} nats{chosen}", err=True)
    peak = bytes_text(aligned.took.peak_memory_bytes)
    typer.echo(f"aligned in {aligned.took.seconds:.1f} s, peak private memory {peak}", err=True)
    typer.echo(f"{aligned.aligned} of {len(aligned.rules)} tensors aligned, the others are the merge's", err=True)
    if isinstance(aligned.result, AdapterResult):
        kept = 1 - aligned.result.discarded
        typer.echo(f"the adapter keeps {kept:.1%} of the energy of the repair", err=True)
    typer.echo(f"weights digest {aligned.result.digest}")


def _print_json(aligned: "Aligned") -> None:
    import json
    from dataclasses import asdict

    from cuvee.engine.combine import AdapterResult

    result = aligned.result
    written: dict[str, Any] = {"folder": str(result.folder), "digest": result.digest}
    if isinstance(result, AdapterResult):
        written["energy_discarded"] = result.discarded
    content = asdict(aligned) | {"result": written}
    typer.echo(json.dumps(content, indent=2))
