"""cuvee calibrate: keep statistics of a model's inputs on a text, for merges that look at data."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cuvee.statistics import Record

NAME = "calibrate"


def command(
    model: str = typer.Argument(..., metavar="MODEL", help="A model's folder, its name on a hub, or BASE+ADAPTER."),
    text: str = typer.Argument(..., metavar="TEXT", help="A .txt, .jsonl or task file, or the name of a bundled task."),
    out: Path = typer.Argument(..., metavar="OUT", help="The folder to write."),
    keep: str = typer.Option(
        "gram,mean_abs,mean", metavar="LIST", help="Statistics to keep of each input: gram, mean_abs, mean."
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

    One block of the model is in memory at a time. OUT appears whole or not at all.
    """
    from cuvee.calibrate.calibrate import calibrate
    from cuvee.calibrate.collect import Collecting, kinds_in
    from cuvee.calibrate.text import cut_warning
    from cuvee.cli.progress import shown_progress
    from cuvee.hub import Hub

    settings: dict[str, Any] = {"positions": positions, "length": length, "rows": rows, "rank": rank, "dtype": dtype}
    how = Collecting(keep=tuple(kinds_in(keep)), **settings)
    where: Any = device
    record = calibrate(
        model,
        text,
        out,
        how,
        tokens=tokens,
        template=template,
        device=where,
        hub=Hub(offline=offline),
        progress=shown_progress(),
    )
    cut = cut_warning(record.text.name, record.text.tokens, record.text.unread)
    if cut:
        typer.echo(f"warning: {cut}", err=True)
    typer.echo(record.model_dump_json(indent=2, by_alias=True) if as_json else _in_words(record, out))


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
