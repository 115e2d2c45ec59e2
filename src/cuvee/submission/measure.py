"""The tasks of a competition, and scores from answers: labels are here, outside the sandbox."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from blake3 import blake3

from cuvee.errors import CuveeError, EvaluationError, PlatformError, SubmissionError
from cuvee.evaluation import Score, Task, TaskReport, load_task
from cuvee.evaluation.metrics import check_metrics, needs_more_than_answers
from cuvee.evaluation.run import judged
from cuvee.evaluation.samples import Answer
from cuvee.evaluation.statistics import macro_score
from cuvee.submission.answers import limited, read_answers
from cuvee.submission.build import Rejection
from cuvee.submission.competition import Competition, CompetitionTask
from cuvee.submission.controls import ControlKind, agreement, control_of, paraphrased, shuffled, with_another_seed
from cuvee.submission.likeness import answer_key
from cuvee.submission.pack import canonical_json
from cuvee.submission.verdict import PrivateScores, PublicScores

PUBLIC, PRIVATE, LEADERBOARD, AGAIN = "public", "private", "leaderboard", "again"
RIGHT = 0.5
"""An answer with a score below this counts as wrong where wrong answers are compared."""


@dataclass(frozen=True)
class Parts:
    """The tasks of each part, each under the competition's name for it. Without private items there are none.

    `leaderboard` has those by which the board is, in place of the public parts. `controls` are tasks by kind, and
    `again` has the private tasks that are decoded by chance, with another seed; both are asked beside the private part.
    """

    public: Mapping[str, Task]
    private: Mapping[str, Task]
    leaderboard: Mapping[str, Task] = field(default_factory=dict)
    controls: Mapping[ControlKind, Mapping[str, Task]] = field(default_factory=dict)
    again: Mapping[str, Task] = field(default_factory=dict)

    @property
    def board(self) -> dict[str, Task]:
        """Return the tasks whose scores the board shows."""
        return {name: self.leaderboard.get(name, task) for name, task in self.public.items()}

    def asked(self) -> dict[str, Task]:
        """Return all tasks by the names that they have in the sandbox."""
        by_part = {PUBLIC: self.public, LEADERBOARD: self.leaderboard, PRIVATE: self.private}
        asked: dict[str, Task] = {}
        for part, tasks in by_part.items():
            asked |= {f"{part}.{name}": task for name, task in tasks.items()}
        return asked

    def asked_beside(self) -> dict[str, Task]:
        """Return the tasks of controls and second answers by the names that they have in the sandbox."""
        asked = {f"{AGAIN}.{name}": task for name, task in self.again.items()}
        for kind, tasks in self.controls.items():
            asked.update({f"{kind}.{name}": task for name, task in tasks.items()})
        return asked


@dataclass(frozen=True)
class Measured:
    """Scores, the answers to the public parts with their digest, tokens of all answers.

    `public` are the scores of the board, and `claimable` those of the parts that participants have, which they may
    claim. `reports` are of the private parts, and `answers` are those that are compared with second ones. `wrong` has
    for each item of the board, by task and in order, a short form of the answer if it was wrong, and "" if not.
    """

    public: PublicScores | None
    private: PrivateScores | None
    predictions: Mapping[str, Mapping[str, int | str]]
    tokens: int
    wrong: Mapping[str, tuple[str, ...]]
    claimable: PublicScores | None = None
    reports: Mapping[str, TaskReport] = field(default_factory=dict)
    answers: Mapping[str, Mapping[str, Answer]] = field(default_factory=dict)

    @property
    def predictions_digest(self) -> str:
        return digest_of_predictions(self.predictions)


def load_parts(competition: Competition, private_items: Path | None, leaderboard_items: Path | None = None) -> Parts:
    """Read the tasks. Raises PlatformError: a task that cannot be read is the organiser's matter.

    Private parts with their controls lead from `private_items`, leaderboard parts from `leaderboard_items`, or else
    from `private_items`; without any they are left out.
    """
    public = _load_all(competition, competition.folder, lambda task: task.public)
    leaderboard = _load_all(competition, leaderboard_items or private_items, lambda task: task.leaderboard)
    if private_items is None:
        return Parts(public, {}, leaderboard)
    private = _load_all(competition, private_items, lambda task: task.private)
    again = {name: with_another_seed(task) for name, task in private.items() if task.prompt.temperature > 0}
    return Parts(public, private, leaderboard, _controls(competition, private, private_items), again)


def _load_all(
    competition: Competition, folder: Path | None, file_of: Callable[[CompetitionTask], str | None]
) -> dict[str, Task]:
    """Read one part of each task that has it, from a folder; of none without a folder."""
    tasks: dict[str, Task] = {}
    for task in competition.tasks:
        file = file_of(task)
        if folder is not None and file is not None:
            tasks[task.name] = _load(task, folder / file)
    return tasks


def _controls(
    competition: Competition, private: Mapping[str, Task], folder: Path
) -> dict[ControlKind, dict[str, Task]]:
    controls: dict[ControlKind, dict[str, Task]] = {"shuffled": {}, "paraphrased": {}, "canaries": {}}
    for task in competition.tasks:
        if task.private is None:
            continue
        own, wanted = private[task.name], task.controls
        try:
            if wanted.shuffled:
                controls["shuffled"][task.name] = shuffled(own)
            if wanted.paraphrases is not None:
                whole = replace(task, limit=None)
                controls["paraphrased"][task.name] = paraphrased(own, _load(whole, folder / wanted.paraphrases))
            if wanted.canaries is not None:
                canaries = _load(replace(task, limit=None), folder / wanted.canaries)
                controls["canaries"][task.name] = replace(own, samples=canaries.samples)
        except EvaluationError as error:
            raise PlatformError(f"a control of task '{task.name}' cannot be asked: {error.message}") from error
    return {kind: tasks for kind, tasks in controls.items() if tasks}


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
    own = [judged(task, found[f"{PUBLIC}.{name}"]) for name, task in parts.public.items()]
    hidden = {name: judged(task, found[f"{LEADERBOARD}.{name}"]) for name, task in parts.leaderboard.items()}
    public = [hidden.get(report.task, report) for report in own]
    private = [judged(task, found[f"{PRIVATE}.{name}"]) for name, task in parts.private.items()]
    predictions = {name: _predictions(task, found[f"{PUBLIC}.{name}"]) for name, task in parts.public.items()}
    tokens = sum(report.tokens for report in (*own, *hidden.values(), *private))
    scored = [report for report in public if report.main]
    wrong = {report.task: _wrong(report) for report in scored}
    board = _public(public)
    if board is not None and hidden:
        board = replace(board, part="leaderboard")
    first = {name: found[f"{PRIVATE}.{name}"] for name in parts.again}
    reports = {report.task: report for report in private}
    return Measured(board, _private(private), predictions, tokens, wrong, _public(own), reports, first)


def measure_beside(parts: Parts, measured: Measured, answers: Path) -> PrivateScores | None:
    """Return the private scores with what controls and second answers tell. Raises Rejection as `measure` does."""
    if measured.private is None:
        return None
    try:
        found = {name: read_answers(answers / f"{name}.jsonl", task) for name, task in parts.asked_beside().items()}
    except SubmissionError as error:
        raise Rejection("output", f"the answers to controls cannot be used: {error}") from error
    controls = []
    for kind, tasks in parts.controls.items():
        for name, task in tasks.items():
            asked = judged(task, found[f"{kind}.{name}"])
            control = control_of(kind, name, measured.reports[name], asked, task)
            if control is not None:
                controls.append(control)
    agree = {name: agreement(measured.answers[name], found[f"{AGAIN}.{name}"]) for name in parts.again}
    return replace(measured.private, controls=tuple(controls), agreement=agree)


def digest_of_predictions(predictions: Mapping[str, Mapping[str, int | str]]) -> str:
    """Return the BLAKE3 of the answers to the public parts."""
    return blake3(canonical_json({name: dict(answers) for name, answers in predictions.items()})).hexdigest()


def _predictions(task: Task, answers: Mapping[str, Answer]) -> dict[str, int | str]:
    return {sample.id: answers[sample.id].prediction for sample in task.samples}


def _wrong(report: TaskReport) -> tuple[str, ...]:
    answers = []
    for item in report.items:
        if item.score is not None:
            answers.append(answer_key(item.prediction) if item.score < RIGHT else "")
    return tuple(answers)


def _mains(reports: Sequence[TaskReport]) -> tuple[Score, ...]:
    return tuple(report.main for report in reports if report.main)


def _public(reports: Sequence[TaskReport]) -> PublicScores | None:
    macro = macro_score(reports)
    return PublicScores(macro, _mains(reports), _items(reports)) if macro else None


def _private(reports: Sequence[TaskReport]) -> PrivateScores | None:
    macro = macro_score(reports)
    return PrivateScores(macro, _mains(reports), _items(reports)) if macro else None


def _items(reports: Sequence[TaskReport]) -> dict[str, tuple[float, ...]]:
    items = {}
    for report in reports:
        if report.main:
            items[report.task] = tuple(item.score for item in report.items if item.score is not None)
    return items
