"""cuvee calibrate: keep statistics of a model's inputs on a text, for merges that look at data."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cuvee.statistics import Record

NAME = "calibrate"


def command(
    places: list[str] = typer.Argument(
        ...,
        metavar="MODEL TEXT OUT",
        help="A model (its folder, its name on a hub, or BASE+ADAPTER), its text (a .txt, .jsonl or task file, or the "
        "name of a bundled task) and the folder to write; with --expert only the folder.",
    ),
    expert: list[str] = typer.Option(
        [], "--expert", metavar="MODEL=TEXT", help="One of several models and its text: its statistics go to OUT/MODEL."
    ),
    keep: str = typer.Option(
        "gram,mean_abs,mean",
        metavar="LIST",
        help="gram, mean_abs, mean of each input; fisher of each tensor.",
    ),
    positions: str = typer.Option("all", metavar="WHICH", help="Positions that count: all, answer or prompt."),
    tokens: int = typer.Option(65536, min=1, metavar="N", help="Stop reading TEXT after so many tokens."),
    length: int = typer.Option(512, min=2, metavar="N", help="Cut each document to so many tokens."),
    template: Path | None = typer.Option(
        None, metavar="FILE", help="A chat template for rows of messages, in place of the model's own."
    ),
    rows: int | None = typer.Option(None, min=1, metavar="N", help="Keep N positions in place of Gram matrices."),
    rank: int | None = typer.Option(None, min=1, metavar="R", help="Keep the R strongest directions of Gram matrices."),
    dtype: str = typer.Option("float32", metavar="TYPE", help="Run the model in float32, bfloat16 or float16."),
    device: str = typer.Option("auto", metavar="DEVICE", help="auto, cpu or cuda."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print the record as JSON."),
) -> None:
    """Run TEXT through MODEL and write statistics of its weights' inputs to OUT, for a recipe's `statistics:`.

    One block of the model is in memory at a time. OUT appears whole or not at all. With --expert several models are
    run in turn, each with its own text: small models take a fraction of the time that as many commands take.
    """
    from cuvee.calibrate.calibrate import calibrate, folders_of
    from cuvee.calibrate.collect import Collecting, kinds_in
    from cuvee.cli.progress import shown_progress
    from cuvee.hub import Hub

    settings: dict[str, Any] = {"positions": positions, "length": length, "rows": rows, "rank": rank, "dtype": dtype}
    how = Collecting(keep=tuple(kinds_in(keep)), **settings)
    texts, out = _asked(places, expert)
    folders = folders_of(list(texts), out) if expert else dict.fromkeys(texts, out)
    where: Any = device
    records = {}
    for model, text in texts.items():
        records[model] = calibrate(
            model,
            text,
            folders[model],
            how,
            tokens=tokens,
            template=template,
            device=where,
            hub=Hub(offline=offline),
            progress=shown_progress(),
        )
        _show(records[model], folders[model], as_json=as_json)
    if as_json:
        typer.echo(_as_json(records, several=bool(expert)))


def _asked(places: list[str], expert: list[str]) -> tuple[dict[str, str], Path]:
    """Return the texts by their models, and the folder to write."""
    from cuvee.cli.experts import experts_in
    from cuvee.errors import RecipeError

    expected = 1 if expert else 3
    if len(places) != expected:
        message = f"expected {'OUT alone' if expert else 'MODEL TEXT OUT'}, found {' '.join(places)}"
        hint = "cuvee calibrate MODEL TEXT OUT, or cuvee calibrate OUT --expert MODEL=TEXT --expert MODEL=TEXT"
        raise RecipeError(message, hint=hint)
    out = Path(places[-1])
    return (experts_in(expert) if expert else {places[0]: places[1]}), out


def _show(record: "Record", out: Path, *, as_json: bool) -> None:
    from cuvee.calibrate.text import cut_warning

    cut = cut_warning(record.text.name, record.text.tokens, record.text.unread)
    if cut:
        typer.echo(f"warning: {cut}", err=True)
    if not as_json:
        typer.echo(_in_words(record, out))


def _as_json(records: Mapping[str, "Record"], *, several: bool) -> str:
    """Return the record of the only model, or the records of several by their models."""
    import json

    content = {model: record.model_dump(mode="json", by_alias=True) for model, record in records.items()}
    return json.dumps(content if several else next(iter(content.values())), indent=2)


def _in_words(record: "Record", out: Path) -> str:
    text = record.text
    loss = "" if record.loss is None else f"loss {record.loss:.4f} nats a token ({record.loss_tokens} tokens)\n"
    return (
        f"{out}: {len(record.sites)} inputs of {sum(map(len, record.sites.values()))} matrices\n"
        f"{_documents(text.documents)}, {text.tokens} tokens, {text.counted} positions counted\n"
        f"{loss}{record.figures.seconds:.1f} s, {record.figures.peak_memory_bytes / 1e6:.0f} MB of memory"
    )


def _documents(count: int) -> str:
    return "1 document" if count == 1 else f"{count} documents"
