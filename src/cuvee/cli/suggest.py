"""cuvee suggest: how to merge some experts, from one pass over their weights."""

import typer

from cuvee.cores import usable_cores

NAME = "suggest"


def command(
    models: list[str] = typer.Argument(..., metavar="MODEL...", help="Models; the first is the base unless --base is."),
    base: str = typer.Option("", metavar="MODEL", help="The model that the experts were trained from."),
    texts: list[str] = typer.Option(
        [], "--texts", metavar="TEXT...", help="A text of each expert, in their order: all read all of them."
    ),
    tokens: int = typer.Option(4096, min=1, metavar="N", help="Stop reading each text after so many tokens."),
    threads: int = typer.Option(0, min=0, metavar="N", help="Workers; 0 for one a core."),
    device: str = typer.Option("auto", metavar="DEVICE", help="auto, cpu or cuda; where texts are read."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print all figures and the advice as JSON."),
) -> None:
    """Say how to merge experts: scale, method, and the score to expect. Reads every model once, writes nothing.

    Every piece of advice has its error on families that it was not fitted on.
    """
    from cuvee.cli.progress import shown_progress
    from cuvee.cli.suggestion_table import suggestion_lines
    from cuvee.hub import Hub
    from cuvee.suggest import suggest

    suggestion = suggest(
        models,
        base=base or None,
        texts=texts,
        threads=threads or usable_cores(),
        tokens=tokens,
        device=device,
        hub=Hub(offline=offline),
        progress=shown_progress(),
    )
    if as_json:
        import json

        typer.echo(json.dumps(suggestion.to_json(), indent=2, ensure_ascii=False))
        return
    for line in suggestion_lines(suggestion):
        typer.echo(line)
    for note in suggestion.notes:
        typer.echo(f"note: {note}", err=True)
