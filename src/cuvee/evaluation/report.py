"""The report of an evaluation: scores with their uncertainty, settings, digests; as JSON and as a submission."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cuvee.documents.whole import write_whole
from cuvee.evaluation.output import writing

REPORT_FILE = "report.json"
SUBMISSION_FILE = "submission.csv"


@dataclass(frozen=True)
class Score:
    """The mean of a metric over `n` items, its standard error and its 95 % interval.

    In a macro average `task` is "macro", and `n` counts the items of all tasks.
    """

    task: str
    metric: str
    n: int
    value: float
    standard_error: float
    low: float
    high: float

    def figures(self) -> dict[str, Any]:
        """Return the numbers alone."""
        numbers = asdict(self)
        del numbers["task"], numbers["metric"]
        return numbers


@dataclass(frozen=True)
class Figure:
    """A value of a whole task or group that is no mean of its items' scores: perplexity, BLEU, the average of a group.

    It has the scale of its metric, and counts in no macro average. `standard_error` is None where nobody knows it, and
    `interval` where no 95 % interval is known.
    """

    task: str
    metric: str
    n: int
    value: float
    standard_error: float | None
    interval: tuple[float, float] | None = None

    def figures(self) -> dict[str, Any]:
        """Return the numbers alone."""
        numbers = {"n": self.n, "value": self.value, "standard_error": self.standard_error}
        return numbers | ({"interval": list(self.interval)} if self.interval else {})


@dataclass(frozen=True)
class Item:
    """An answer with its score by the task's main metric, None where the target is not known."""

    id: str
    prediction: int | str
    score: float | None


@dataclass(frozen=True)
class TaskReport:
    """Results of a task. `scores` follow the task's metrics, the main metric first; empty if no target is known.

    `truncated` items were too long for the model and were cut. `prompt` has the keys in which the task's
    prompt differs from the defaults. `figures` are of metrics that no item has a share of.
    """

    task: str
    digest: str
    weight: float
    scores: tuple[Score, ...]
    items: tuple[Item, ...]
    truncated: int
    tokens: int
    prompt: Mapping[str, Any] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()

    @property
    def main(self) -> Score | None:
        """The score that counts in the macro average."""
        return self.scores[0] if self.scores else None

    @property
    def unscored(self) -> int:
        """How many items have no target."""
        return sum(item.score is None for item in self.items)


@dataclass(frozen=True)
class Report:
    """Results of a model. `macro` is the weighted average of the main scores, None if nothing could be scored.

    - `seconds`: the time of this run.
    - `tokens`: of all items, also of items that an earlier run had answered.
    - `notes`: sentences that a reader of the scores must know.
    - `reading`: how this run read the items; comparisons of reports pass over it.
    - `groups`: lm-eval's figures of its groups of tasks.
    """

    model: str
    model_digest: str
    tasks: tuple[TaskReport, ...]
    macro: Score | None
    settings: Mapping[str, str | int | None]
    seconds: float
    tokens: int
    notes: tuple[str, ...] = ()
    reading: Mapping[str, Any] = field(default_factory=dict, compare=False)
    groups: tuple[Figure, ...] = ()

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Return the figures of whole tasks, task by task, and then of groups."""
        figures: list[Figure] = []
        for task in self.tasks:
            figures += task.figures
        return (*figures, *self.groups)

    def task(self, name: str) -> TaskReport:
        """Return the results of a task by its name."""
        return next(task for task in self.tasks if task.task == name)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the items, in plain types."""
        return {
            "model": self.model,
            "model_digest": self.model_digest,
            "macro": self.macro.figures() if self.macro else None,
            "tasks": {task.task: _task_json(task) for task in self.tasks},
            "settings": dict(self.settings),
            "seconds": round(self.seconds, 3),
            "tokens": self.tokens,
            "notes": list(self.notes),
            "reading": dict(self.reading),
            "groups": by_task(self.groups),
        }

    def write(self, folder: Path) -> None:
        """Write `report.json` and `submission.csv`, each in one go."""
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / REPORT_FILE, json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n")
            write_whole(folder / SUBMISSION_FILE, submission(self))


def submission(report: Report) -> str:
    """Return the predictions of all tasks, in order, as the competition's CSV: the choice's index, or text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "prediction", "dummy_field"])
    for task in report.tasks:
        writer.writerows([item.id, item.prediction, 0] for item in task.items)
    return text.getvalue()


def _task_json(task: TaskReport) -> dict[str, Any]:
    return {
        "digest": task.digest,
        "weight": task.weight,
        "n": len(task.items),
        "unscored": task.unscored,
        "truncated": task.truncated,
        "tokens": task.tokens,
        "prompt": dict(task.prompt),
        "metrics": {score.metric: score.figures() for score in task.scores},
        "figures": {figure.metric: figure.figures() for figure in task.figures},
    }


def by_task(figures: Sequence[Figure]) -> dict[str, dict[str, Any]]:
    """Return figures in plain types, by their task or group and metric."""
    by_task: dict[str, dict[str, Any]] = {}
    for figure in figures:
        by_task.setdefault(figure.task, {})[figure.metric] = figure.figures()
    return by_task
