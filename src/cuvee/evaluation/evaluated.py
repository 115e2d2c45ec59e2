"""An evaluation as it lies in a folder, `report.json` with the lines of samples, read back to be shown or compared."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuvee.errors import EvaluationError
from cuvee.evaluation.report import REPORT_FILE, SUBMISSION_FILE, Figure, Item, Report, Score, TaskReport
from cuvee.evaluation.samples import samples_file

ANEW = "evaluate the model again with --out"

Line = Mapping[str, Any]
"""One line of samples, as `sample_line` writes it."""


@dataclass(frozen=True)
class Evaluated:
    """A report and, for each of its tasks, the lines of samples in the order of its items."""

    report: Report
    lines: Mapping[str, tuple[Line, ...]]


def read_evaluated(folder: str | Path) -> Evaluated:
    """Read the files of `evaluate(..., out=folder)`. Raises EvaluationError for missing files or files in disorder."""
    place = Path(folder)
    file = place / REPORT_FILE
    try:
        report = json.loads(_text(file))
        ids = _ids(place / SUBMISSION_FILE, sum(task["n"] for task in report["tasks"].values()))
        lines, start = {}, 0
        for name, task in report["tasks"].items():
            lines[name] = _lines(place, name, ids[start : start + task["n"]])
            start += task["n"]
        return Evaluated(_report(report, lines), lines)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvaluationError("not the report of an evaluation", where=str(file), hint=ANEW) from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        hint = "`cuvee evaluate MODEL TASK --out FOLDER` writes one"
        raise EvaluationError("there is no report of an evaluation", where=str(file), hint=hint) from error


def _ids(file: Path, count: int) -> list[str]:
    ids = [row["id"] for row in csv.DictReader(io.StringIO(_text(file), newline=""))]
    if len(ids) != count:
        raise EvaluationError(f"the report is of {count} items, this of {len(ids)}", where=str(file), hint=ANEW)
    return ids


def _lines(folder: Path, task: str, ids: list[str]) -> tuple[Line, ...]:
    path = samples_file(folder, task)
    by_id: dict[str, Line] = {}
    for text in _text(path).split("\n"):
        if text.endswith("}"):  # a run that was killed leaves a torn last line
            line = json.loads(text)
            by_id[line["id"]] = line
    for name in ids:
        if name not in by_id:
            raise EvaluationError(f"the answer to item '{name}' is not there", where=str(path), hint=ANEW)
    return tuple(by_id[name] for name in ids)


def _report(found: Mapping[str, Any], lines: Mapping[str, tuple[Line, ...]]) -> Report:
    tasks = tuple(_task(name, task, lines[name]) for name, task in found["tasks"].items())
    metrics = {task.main.metric for task in tasks if task.main}
    metric = metrics.pop() if len(metrics) == 1 else "mixed"
    groups: list[Figure] = []
    for name, metrics_of_group in found.get("groups", {}).items():
        groups += _figures(name, metrics_of_group)
    return Report(
        model=found["model"],
        model_digest=found["model_digest"],
        tasks=tasks,
        macro=Score("macro", metric, **found["macro"]) if found["macro"] else None,
        settings=found["settings"],
        seconds=found["seconds"],
        tokens=found["tokens"],
        notes=tuple(found["notes"]),
        reading=found.get("reading", {}),
        groups=tuple(groups),
    )


def _task(name: str, task: Mapping[str, Any], lines: tuple[Line, ...]) -> TaskReport:
    scores = tuple(Score(name, metric, **figures) for metric, figures in task["metrics"].items())
    main = scores[0].metric if scores else ""
    return TaskReport(
        task=name,
        digest=task["digest"],
        weight=task["weight"],
        scores=scores,
        items=tuple(Item(line["id"], line["prediction"], line["metrics"].get(main)) for line in lines),
        truncated=task["truncated"],
        tokens=task["tokens"],
        prompt=task["prompt"],
        figures=_figures(name, task.get("figures", {})),
    )


def _figures(name: str, metrics: Mapping[str, Any]) -> tuple[Figure, ...]:
    return tuple(Figure(name, metric, **_intervals(figures)) for metric, figures in metrics.items())


def _intervals(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of a figure with its interval, if any, as a pair."""
    interval = figures.get("interval")
    return {**figures, "interval": tuple(interval) if interval else None}
