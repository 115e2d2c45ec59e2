"""A model's card with scores: for people a table with intervals, for a hub the `model-index` of the card's head.

https://github.com/huggingface/hub-docs/blob/main/modelcard.md lists the keys that a hub reads.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import yaml

from cuvee.errors import CheckpointError
from cuvee.evaluation.report import Figure, Report, Score
from cuvee.hub.model_index import Result, model_index
from cuvee.report.evaluation import number
from cuvee.version import __version__

BEGIN, END = "<!-- scores -->", "<!-- end of scores -->"
INDEX = "model-index"
DIGITS = 4
"""Of a score, which is a share; more would be noise."""


def scored_card(card: str, report: Report, *, sentence: str = "", where: str = "README.md") -> str:
    """Return a card with the scores of a report, in place of those that it has.

    `sentence` goes below the table. Raises CheckpointError for a card whose head cannot be read.
    """
    front, body = _parted(card, where)
    front[INDEX] = model_index(PurePath(report.model).name, _results(report))
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n{_with_section(body, _section(report, sentence))}"


def _results(report: Report) -> Iterator[Result]:
    """Yield a result for each metric of each task and group."""
    for task in report.tasks:
        settings: dict[str, Any] = {"digest": task.digest[:16], "items": len(task.items)}
        if report.settings.get("limit"):
            settings["limit"] = report.settings["limit"]
        measures: tuple[Score | Figure, ...] = (*task.scores, *task.figures)
        for measured in measures:
            yield _result(task.task, settings, measured)
    for figure in report.groups:
        yield _result(figure.task, {}, figure)


def _result(task: str, settings: Mapping[str, Any], measured: Score | Figure) -> Result:
    return Result(task, settings, measured.metric, round(measured.value, DIGITS), _sureness(measured))


def _sureness(measured: Score | Figure) -> dict[str, Any]:
    """Return the standard error and the interval, as far as they are known."""
    figures: dict[str, Any] = {}
    if measured.standard_error is not None:
        figures["standard_error"] = round(measured.standard_error, DIGITS)
    interval = (measured.low, measured.high) if isinstance(measured, Score) else measured.interval
    if interval is not None:
        figures["interval_95"] = [round(bound, DIGITS) for bound in interval]
    return figures


def _parted(card: str, where: str) -> tuple[dict[str, Any], str]:
    """Part a card into its head and the rest; the head of a card without any is empty."""
    match = re.match(r"---\r?\n(.*?)^---[ \t]*\r?\n?", card, re.DOTALL | re.MULTILINE)
    if match is None:
        return {}, card
    try:
        front = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        raise CheckpointError("the card's head is no YAML", where=where, hint="mend it first") from error
    if not isinstance(front, dict | None):
        raise CheckpointError("the card's head is no mapping of keys", where=where, hint="mend it first")
    return front or {}, card[match.end() :]


def _with_section(body: str, section: str) -> str:
    """Put a section in the place of an earlier version, or before the first heading of its level, or at the end."""
    start, end = body.find(BEGIN), body.find(END)
    if 0 <= start < end:
        return body[:start] + section + body[end + len(END) :]
    heading = re.search(r"^## ", body, re.MULTILINE)
    place = len(body) if heading is None else heading.start()
    before = body[:place] if body[:place].endswith("\n") else body[:place] + "\n"
    return f"{before}{section}\n\n{body[place:]}"


def _section(report: Report, sentence: str) -> str:
    rows = [_row(measured) for measured in _all(report)]
    below = f"\n\n{sentence}" if sentence else ""
    table = "\n".join(("| task | metric | items | score | 95 % interval |", "|---|---|---|---|---|", *rows))
    return f"{BEGIN}\n## Scores\n\n{table}\n\n{_how(report)}{below}\n{END}"


def _all(report: Report) -> Iterator[Score | Figure]:
    for task in report.tasks:
        yield from task.scores
    if report.macro is not None and len(report.tasks) > 1:
        yield report.macro
    yield from report.figures


def _row(measured: Score | Figure) -> str:
    cells = (measured.task, measured.metric, str(measured.n), _value(measured), _interval(measured))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _value(measured: Score | Figure) -> str:
    return f"{measured.value:.1%}" if isinstance(measured, Score) else number(measured.value)


def _interval(measured: Score | Figure) -> str:
    if isinstance(measured, Score):
        return f"{measured.low:.1%} to {measured.high:.1%}"
    if measured.interval is None:
        return "-"
    return " to ".join(map(number, measured.interval))


def _how(report: Report) -> str:
    settings = [f"{report.settings[name]}" for name in ("dtype", "device") if report.settings.get(name)]
    limit = report.settings.get("limit")
    items = f", of each task the first {limit} items" if limit else ""
    return f"Measured with Cuvée {__version__} ({', '.join(settings)}){items}."
