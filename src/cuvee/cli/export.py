"""cuvee export: a model in the form of another program."""

from pathlib import Path
from typing import get_args

import typer

NAME = "export"

app = typer.Typer(help="Write a model in the form of another program.", no_args_is_help=True)


@app.command("gguf")
def gguf(
    model: str = typer.Argument(..., metavar="MODEL", help="The model: a folder, a file or org/name."),
    file: Path = typer.Argument(..., metavar="FILE", help="The GGUF file to write."),
    kind: str = typer.Option(
        "q8_0",
        "--type",
        metavar="TYPE",
        help="f32, f16, q8_0, q6_k, q5_k_m, q5_k_s, q5_0, q4_k_m, q4_k_s, q4_0, or mxfp4_moe for experts.",
    ),
    split: str = typer.Option(
        None,
        "--split",
        metavar="NAME",
        help="llama.cpp's name for the way the tokenizer cuts texts; by default found.",
    ),
    ollama: bool = typer.Option(False, "--ollama", help="Write a Modelfile for Ollama beside FILE."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace FILE if it is there."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Write MODEL, of a type like Llama, Qwen or Gemma, as a GGUF file with its tokenizer."""
    from cuvee.cli.amounts import bytes_text
    from cuvee.cli.progress import shown_progress
    from cuvee.errors import RecipeError
    from cuvee.export import Kind, export_gguf
    from cuvee.hub import Hub
    from cuvee.plan.resolve import folder_of

    kind = kind.lower()
    if kind not in get_args(Kind):
        raise RecipeError(f"--type: expected {', '.join(get_args(Kind))}, found '{kind}'")
    progress = shown_progress()
    place = folder_of(model, Hub(offline=offline), progress)
    made = export_gguf(
        place,
        file,
        kind,  # type: ignore[arg-type]  # seen above
        split=split,
        ollama=ollama,
        overwrite=overwrite,
        progress=progress,
    )
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(made), indent=2, default=str))
        return
    for note in made.notes:
        typer.echo(f"warning: {note}", err=True)
    typer.echo(f"{made.file}: {made.tensors} tensors, {made.kind}, {bytes_text(made.nbytes)}")
    if made.modelfile is not None:
        typer.echo(f"{made.modelfile}: ollama create NAME -f {made.modelfile}")


@app.command("rope")
def rope(
    folder: Path = typer.Argument(..., metavar="FOLDER", help="A model's folder, whose config.json is changed."),
    as_json: bool = typer.Option(False, "--json", help="Print the keys as JSON."),
) -> None:
    """Write rope_theta and rope_scaling beside rope_parameters in config.json, for programs that read these."""
    import json

    from cuvee.export.older_rope import write_older_rope

    keys = write_older_rope(folder)
    if as_json:
        typer.echo(json.dumps(keys))
        return
    typer.echo(f"{folder / 'config.json'}: {', '.join(keys)}")


@app.command("fp8")
def fp8(
    model: str = typer.Argument(..., metavar="MODEL", help="The model: a folder or org/name."),
    out: Path = typer.Argument(..., metavar="OUT", help="The folder to write."),
    form: str = typer.Option("deepseek", "--form", metavar="FORM", help="deepseek or compressed-tensors."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Write MODEL with eight-bit matrices and a scale for each block of 128 x 128, and say what that loses."""
    from cuvee.cli.progress import shown_progress
    from cuvee.errors import RecipeError
    from cuvee.export.eight_bits import export_fp8
    from cuvee.hub import Hub
    from cuvee.plan.eight_bits import Form
    from cuvee.plan.resolve import folder_of

    if form not in get_args(Form):
        raise RecipeError(f"--form: expected {' or '.join(get_args(Form))}, found '{form}'")
    progress = shown_progress()
    place = folder_of(model, Hub(offline=offline), progress)
    made = export_fp8(place, out, form, progress=progress)  # type: ignore[arg-type]  # seen above
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(made), indent=2, default=str))
        return
    typer.echo(f"{made.folder}: {made.matrices} matrices in eight bits, {made.left} tensors as they are")
    typer.echo(f"loss: {made.loss:.2%} of the matrices' norm; most {made.largest_loss:.2%}, of {made.worst}")
