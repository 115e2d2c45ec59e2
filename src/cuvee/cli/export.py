"""cuvee export: a model in the form of another program."""

from pathlib import Path

import typer

NAME = "export"

app = typer.Typer(help="Write a model in the form of another program.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `gguf` a command of its own, though it is the only one."""


@app.command("gguf")
def gguf(
    model: str = typer.Argument(..., metavar="MODEL", help="The model: a folder, a file or org/name."),
    file: Path = typer.Argument(..., metavar="FILE", help="The GGUF file to write."),
    kind: str = typer.Option("q8_0", "--type", metavar="TYPE", help="How matrices are stored: f16 or q8_0."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace FILE if it is there."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Write MODEL, of a type like Llama, Qwen or Gemma, as a GGUF file with its tokenizer."""
    from cuvee.cli.amounts import bytes_text
    from cuvee.cli.progress import shown_progress
    from cuvee.errors import RecipeError
    from cuvee.export import export_gguf
    from cuvee.hub import Hub
    from cuvee.plan.resolve import folder_of

    if kind not in ("f16", "q8_0"):
        raise RecipeError(f"--type: expected f16 or q8_0, found '{kind}'")
    progress = shown_progress()
    place = folder_of(model, Hub(offline=offline), progress)
    made = export_gguf(place, file, kind, overwrite=overwrite, progress=progress)  # type: ignore[arg-type]  # seen above
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(made) | {"file": str(made.file)}, indent=2))
        return
    for note in made.notes:
        typer.echo(f"warning: {note}", err=True)
    typer.echo(f"{made.file}: {made.tensors} tensors, {made.kind}, {bytes_text(made.nbytes)}")
