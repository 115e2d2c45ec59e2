"""cuvee tokenizer: compare tokenizers, replace the tokenizer of a model, add tokens to it and change its padding."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cuvee.cores import usable_cores

if TYPE_CHECKING:
    from cuvee.engine.options import RunOptions
    from cuvee.tokenizers.report import Described

NAME = "tokenizer"

app = typer.Typer(help="Compare tokenizers, resize one, and give a model another model's.", no_args_is_help=True)


@app.command("compare")
def compare(
    models: list[str] = typer.Argument(..., metavar="MODEL MODEL...", help="Models; the first is compared with."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Show whether tokenizers are equal, reordered, supersets or disjoint, and which rows are padding.

    Of models on a hub only headers and the tokenizers' files are downloaded.
    """
    from cuvee.hub import Hub
    from cuvee.plan.vocabulary import compared

    described = compared(models, Hub(offline=offline))
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps([asdict(one) for one in described], indent=2, ensure_ascii=False))
    else:
        _print(described)


@app.command("transplant")
def transplant(
    model: str = typer.Argument(..., metavar="MODEL", help="The model that gets another tokenizer."),
    donor: str = typer.Argument(..., metavar="DONOR", help="The model whose tokenizer it gets."),
    out: Path = typer.Argument(..., metavar="OUT", help="The folder to write."),
    method: str = typer.Option("omp", metavar="NAME", help="How missing rows are made: omp or subword."),
    k: int = typer.Option(64, min=1, metavar="N", help="How many shared tokens omp may combine."),
    threads: int = typer.Option(0, min=0, metavar="N", help="Cores to use; 0 for all."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier result at OUT."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Write MODEL with the tokenizer of DONOR: shared tokens keep their rows, the others are approximated."""
    from cuvee.cli.merge import print_merge
    from cuvee.cli.progress import shown_progress
    from cuvee.engine.transplant import transplant as run
    from cuvee.errors import RecipeError
    from cuvee.hub import Hub
    from cuvee.plan.resolve import find_model

    if method not in ("omp", "subword"):
        raise RecipeError(f"--method: expected omp or subword, found '{method}'")
    hub, progress = Hub(offline=offline), shown_progress()
    models = [find_model(name, hub, progress) for name in (model, donor)]
    options: RunOptions = {"threads": threads or usable_cores(), "overwrite": overwrite, "progress": progress}
    print_merge(run(models[0], models[1], out, method=method, k=k, hub=hub, **options), as_json=as_json)  # type: ignore[arg-type]  # seen above


@app.command("resize")
def resize(
    model: str = typer.Argument(..., metavar="MODEL", help="The model whose embedding and head get other rows."),
    out: Path = typer.Argument(..., metavar="OUT", help="The folder to write."),
    add: list[str] = typer.Option(
        [],
        metavar="TOKEN=START",
        help="A token to add, and its row at the start: zero, mean (of all tokens), or the token whose row it gets.",
    ),
    special: bool = typer.Option(False, "--special", help="Added tokens are special: decoding may leave them out."),
    multiple: int | None = typer.Option(None, min=1, metavar="N", help="Pad the rows to a multiple of N."),
    drop_padding: bool = typer.Option(False, "--drop-padding", help="Leave out rows that belong to no token."),
    memory: str = typer.Option("512MB", metavar="SIZE", help="Private memory that it may take."),
    threads: int = typer.Option(0, min=0, metavar="N", help="Cores to use; 0 for all."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier result at OUT."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Write MODEL with tokens added, and with its rows of padding dropped or grown to a multiple."""
    from cuvee.cli.merge import print_merge, run_options
    from cuvee.engine.resize import Resizing, resize_vocabulary
    from cuvee.hub import Hub

    how = Resizing(_starts(add), special, multiple, drop_padding)
    options = run_options(memory, threads, overwrite=overwrite)
    print_merge(resize_vocabulary(model, out, how, hub=Hub(offline=offline), **options), as_json=as_json)


def _starts(added: list[str]) -> dict[str, str]:
    """Read each `TOKEN=START`; a token may hold an equals sign, a start may not."""
    from cuvee.errors import RecipeError

    starts: dict[str, str] = {}
    for written in added:
        token, sign, start = written.rpartition("=")
        is_complete = bool(sign) and bool(start)
        if token in starts or not is_complete:
            raise RecipeError(f"--add: expected TOKEN=START, each token once, found '{written}'")
        starts[token] = start
    return starts


def _print(described: tuple["Described", ...]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from cuvee.tokenizers.compare import in_words

    table = Table(box=None, pad_edge=False)
    for column in ("model", "kind"):
        table.add_column(column)
    for column in ("tokens", "added", "rows", "padding"):
        table.add_column(column, justify="right")
    table.add_column("chat template")
    for one in described:
        rows = "-" if one.rows is None else str(one.rows)
        template = "yes" if one.chat_template else "no"
        cells = (one.name, one.kind, str(one.tokens), str(one.added), rows, str(one.padding), template)
        table.add_row(*map(escape, cells))
    console = Console()
    console.print(table)
    for one in described:
        if one.beyond:
            console.print(f"{one.name}: {one.beyond} tokens have no row in the embedding", markup=False)
        if one.against is not None:
            found = f"{one.name} is {one.against.relation}: against {described[0].name}, {in_words(one.against)}"
            console.print(found, markup=False, soft_wrap=True)
            sides = ((described[0].name, one.against.examples_first), (one.name, one.against.examples_second))
            for whose, examples in sides:
                if examples:
                    console.print(f"  only in {whose}: {' '.join(map(repr, examples))}", markup=False, soft_wrap=True)
