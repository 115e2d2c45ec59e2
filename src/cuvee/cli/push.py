"""cuvee push: a model to a hub."""

from pathlib import Path

import typer

NAME = "push"


def command(
    model: Path = typer.Argument(..., metavar="MODEL", help="The folder of a merged model."),
    name: str = typer.Argument(..., metavar="ORG/NAME", help="Its name on the hub."),
    private: bool = typer.Option(False, "--private", help="Make a new model that only you can see."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Upload a model to the hub, with its card. Needs a token that may write: `hf auth login`, or HF_TOKEN."""
    from cuvee.cli.progress import shown_progress
    from cuvee.hub import Hub, push

    pushed = push(Hub(), model, name, private=private, progress=shown_progress())
    if as_json:
        import json

        typer.echo(json.dumps({"model": pushed.name, "commit": pushed.commit, "url": pushed.url}, indent=2))
    else:
        typer.echo(f"{pushed.url} {pushed.commit}")
