"""The tasks of a competition, and scores from answers: labels are here, outside the sandbox."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blake3 import blake3

from cuvee.errors import CuveeError, EvaluationError, PlatformError, SubmissionError
from cuvee.evaluation import Task, TaskReport, load_task
from cuvee.evaluation.metrics import check_metrics, needs_more_than_answers
from cuvee.evaluation.run import judged
from cuvee.evaluation.samples import Answer
from cuvee.evaluation.statistics import macro_score
from cuvee.submission.answers import limited, read_answers
from cuvee.submission.build import Rejection
from cuvee.submission.competition import Competition, CompetitionTask
from cuvee.submission.likeness import answer_key
from cuvee.submission.pack import canonical_json
from cuvee.submission.verdict import PrivateScores, PublicScores

PUBLIC, PRIVATE = "public", "private"
RIGHT = 0.5
"""An answer with a score below this counts as wrong where wrong answers are compared."""


@dataclass(frozen=True)
class Parts:
    """The public and private tasks, each under the competition's name for it. Without private items there are none."""

    public: Mapping[str, Task]
    private: Mapping[str, Task]

    def asked(self) -> dict[str, Task]:
        """Return all tasks by the names that they have in the sandbox."""
        return {
            **{f"{PUBLIC}.{name}": task for name, task in self.public.items()},
            **{f"{PRIVATE}.{name}": task for name, task in self.private.items()},
        }


@dataclass(frozen=True)
class Measured:
    """Scores, the answers to the public parts with their digest, tokens of all answers.

    `wrong` has for each public item of a task, in order, a short form of the answer if it was wrong, and "" if not.
    """

    public: PublicScores | None
    private: PrivateScores | None
    predictions: Mapping[str, Mapping[str, int | str]]
    tokens: int
    wrong: Mapping[str, tuple[str, ...]]

    @property
    def predictions_digest(self) -> str:
        return digest_of_predictions(self.predictions)


def load_parts(competition: Competition, private_items: Path | None) -> Parts:
    """Read the tasks. Raises PlatformError: a task that cannot be read is the organiser's matter."""
    public = {task.name: _load(task, competition.folder / task.public) for task in competition.tasks}
    private = {
        task.name: _load(task, private_items / task.private)
        for task in competition.tasks
        if task.private is not None and private_items is not None
    }
    return Parts(public, private)


def _load(task: CompetitionTask, place: Path) -> Task:
    try:
        loaded = load_task(place)
        if task.metrics:
            check_metrics(task.metrics, loaded.samples, where=str(place))
        other = needs_more_than_answers(task.metrics or loaded.metrics, loaded.samples)
        if other is not None:
            raise EvaluationError(f"a competition has no place for {other}", where=str(place))
    except CuveeError as error:
        raise PlatformError(f"task '{task.name}' cannot be read: {error}") from error
    return replace(limited(loaded, task.limit, task.metrics), name=task.name, weight=task.weight)


def measure(parts: Parts, answers: Path) -> Measured:
    """Score the answers in a folder. Raises Rejection for answers that are not answers."""
    try:
        found = {name: read_answers(answers / f"{name}.jsonl", task) for name, task in parts.asked().items()}
    except SubmissionError as error:
        raise Rejection("output", f"the answers cannot be used: {error}") from error
    public = [judged(task, found[f"{PUBLIC}.{name}"]) for name, task in parts.public.items()]
    private = [judged(task, found[f"{PRIVATE}.{name}"]) for name, task in parts.private.items()]
    predictions = {name: _predictions(task, found[f"{PUBLIC}.{name}"]) for name, task in parts.public.items()}
    tokens = sum(report.tokens for report in (*public, *private))
    scored = [report for report in public if report.main]
    wrong = {report.task: _wrong(report) for report in scored}
    return Measured(_public(public), _private(private), predictions, tokens, wrong)


def digest_of_predictions(predictions: Mapping[str, Mapping[str, int | str]]) -> str:
    """Return the BLAKE3 of the answers to the public parts."""
    return blake3(canonical_json({name: dict(answers) for name, answers in predictions.items()})).hexdigest()


def _predictions(task: Task, answers: Mapping[str, Answer]) -> dict[str, int | str]:
    return {sample.id: answers[sample.id].prediction for sample in task.samples}


def _wrong(report: TaskReport) -> tuple[str, ...]:
    scored = [item for item in report.items if item.score is not None]
    return tuple(answer_key(item.prediction) if (item.score or 0) < RIGHT else "" for item in scored)


def _public(reports: Sequence[TaskReport]) -> PublicScores | None:
    macro = macro_score(reports)
    return PublicScores(macro, tuple(r.main for r in reports if r.main), _items(reports)) if macro else None


def _private(reports: Sequence[TaskReport]) -> PrivateScores | None:
    macro = macro_score(reports)
    return PrivateScores(macro, tuple(r.main for r in reports if r.main), _items(reports)) if macro else None


def _items(reports: Sequence[TaskReport]) -> dict[str, tuple[float, ...]]:
    return {r.task: tuple(item.score for item in r.items if item.score is not None) for r in reports if r.main}
