"""What a run shows: a forecast; scores, as `cuvee report` shows them; and scores against tokens written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import transformers
from forecast import CARDS, Forecast
from rates import Rates
from rich.console import Console
from rich.table import Table

from cuvee.amounts import bytes_text, points
from cuvee.cli import report
from cuvee.evaluation.evaluated import Line, read_evaluated
from cuvee.evaluation.statistics import Estimate, average
from cuvee.search.front import Objective, front

Tokens = Mapping[str, Mapping[str, Sequence[int]]]
"""The tokens that a model wrote for each item, by the model and the task."""


def print_forecast(found: Forecast, rates: Rates, rows: int, price: float, free: int, file: Path) -> None:
    """Print a forecast with the rates that it is made of, and write it as JSON."""
    console = Console()
    merges = Table("recipe", "reads", "writes", "memory", "on a card", "time", box=None, header_style="")
    for merge in found.merges:
        card = bytes_text(merge.card_bytes) if merge.card_bytes else "-"
        sizes = map(bytes_text, (merge.bytes_read, merge.bytes_written, merge.memory_bytes))
        merges.add_row(merge.name, *sizes, card, duration(merge.seconds))
    console.print(merges)
    tasks = Table("task", "time for a model at most", box=None, header_style="")
    for task, seconds in found.measuring.seconds.items():
        tasks.add_row(Path(task).stem, duration(seconds))
    console.print(tasks)
    for line in _lines(found, rates, rows, price, free):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    content = {**asdict(found), "rates": asdict(rates), "price": price, "cost": _cost(found, price)}
    content |= {"seconds": found.seconds, "fits": {str(card): found.fits(card) for card in CARDS}}
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _lines(found: Forecast, rates: Rates, rows: int, price: float, free: int) -> list[str]:
    shape, measuring = found.shape, found.measuring
    room = "enough" if free > found.disk_bytes else "TOO LITTLE"
    lines = [
        f"disk: {bytes_text(found.disk_bytes)}, {bytes_text(found.download_bytes)} of it to download; "
        f"{bytes_text(free)} are free: {room}",
        f"memory of the machine: {bytes_text(found.memory_bytes)}",
        f"memory of the card: {bytes_text(found.card_bytes)}; measuring takes {bytes_text(shape.weight_bytes)} of "
        f"weights and {rows} rows of {bytes_text(measuring.row_bytes)}",
    ]
    lines += [f"warning: {warning}" for warning in found.warnings]
    for card in CARDS:
        fits = "fits" if found.fits(card) else "DOES NOT FIT"
        lines.append(f"a card of {card} GB: {fits}; it has room for {found.rows[card]} rows")
    lines += [
        f"time: {duration(found.download_seconds)} of downloads, {duration(found.merge_seconds)} of merges, "
        f"{duration(found.measure_seconds)} for {found.models} models at most",
        f"cost: {_cost(found, price):.2f} at {price:.2f} an hour",
        f"rates: {rates.card}; {bytes_text(rates.device_bytes)}/s, {rates.device_operations / 1e12:.3g} TFLOPS, "
        f"{rates.layer_seconds * 1e6:.0f} µs a layer; disk {bytes_text(rates.disk_read)}/s read, "
        f"{bytes_text(rates.disk_write)}/s written; downloads assumed at {bytes_text(rates.download)}/s",
    ]
    return lines


def _cost(found: Forecast, price: float) -> float:
    return found.seconds / 3600 * price


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def show_scores(folders: Sequence[Path], page: Path) -> None:
    """Print ranks and differences with their intervals, and write the page, by `cuvee report`."""
    report.command(list(folders), page=page, as_json=False)


def tokens_written(folders: Sequence[Path], tokenizer: Path) -> dict[str, dict[str, list[int]]]:
    """Count what each model wrote for each item, in the tokens of a single tokenizer, so that all count alike."""
    encode = transformers.AutoTokenizer.from_pretrained(tokenizer)
    written = {}
    for folder in folders:
        lines = read_evaluated(folder).lines
        written[folder.name] = {task: [_tokens(encode, line) for line in own] for task, own in lines.items()}
    return written


def _tokens(encode: transformers.PreTrainedTokenizerBase, line: Line) -> int:
    return len(encode(line.get("text") or "", add_special_tokens=False).input_ids)


def show_tokens(folders: Sequence[Path], tokens: Tokens, file: Path) -> None:
    """Print each model's score and tokens an item with their 95 % intervals, and which of them no other beats in both.

    A model is beaten where another is clearly better in both by the paired bound of `cuvee search`.
    """
    reports = {folder.name: read_evaluated(folder).report for folder in folders}
    scores = {
        name: {task.task: [item.score or 0.0 for item in task.items] for task in own.tasks}
        for name, own in reports.items()
    }
    most = max(1, *(count for own in tokens.values() for counts in own.values() for count in counts))
    saved = {
        name: {task: [1 - count / most for count in counts] for task, counts in own.items()}
        for name, own in tokens.items()
    }
    weights = {task.task: task.weight for task in next(iter(reports.values())).tasks}
    staying = front([Objective("score", scores, weights), Objective("tokens saved", saved, weights)])
    unbeaten = {point.name for point in staying.points}
    table = Table("model", "score", "95 % interval", "tokens an item", "95 % interval", "", box=None, header_style="")
    rows = []
    for name, own in scores.items():
        score = _macro(own, weights)
        saving = _macro(saved[name], weights)
        used = [most * (1 - part) for part in (saving.value, saving.high, saving.low)]
        table.add_row(
            name,
            points(score.value),
            f"{points(score.low)} to {points(score.high)}",
            f"{used[0]:.1f}",
            f"{used[1]:.1f} to {used[2]:.1f}",
            "unbeaten" if name in unbeaten else "",
        )
        interval = {"score": [score.value, score.low, score.high], "tokens": used}
        rows.append({"model": name, **interval, "unbeaten": name in unbeaten})
    Console().print(table)
    file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _macro(scores: Mapping[str, Sequence[float]], weights: Mapping[str, float]) -> Estimate:
    return average([scores[task] for task in weights], list(weights.values()))
