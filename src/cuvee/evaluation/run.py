"""Evaluates a model on tasks: answers every item, judges the answers, and says how sure the scores are."""

import itertools
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cuvee import demo
from cuvee.arguments import as_path, checks_options, refused
from cuvee.errors import RecipeError
from cuvee.evaluation import metrics, statistics
from cuvee.evaluation.output import check_writable
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.prompt_yaml import as_prompt, written_prompt
from cuvee.evaluation.reading import Reading
from cuvee.evaluation.report import REPORT_FILE, SUBMISSION_FILE, Item, Report, Score, TaskReport
from cuvee.evaluation.samples import (
    Answer,
    Kept,
    append,
    batches_file,
    item_key,
    read_kept,
    rewrite,
    sample_line,
    samples_file,
)
from cuvee.evaluation.suite import SUFFIXES, load_tasks
from cuvee.evaluation.task import Sample, Task
from cuvee.evaluation.task_figures import figures_of
from cuvee.progress import Progress, Silent

if TYPE_CHECKING:
    from cuvee.evaluation.answerer import Answerer
    from cuvee.evaluation.batches import BatchSize
    from cuvee.evaluation.choices import Scoring
    from cuvee.evaluation.harness import Harnessed
    from cuvee.evaluation.model import Device, Dtype, LanguageModel
    from cuvee.evaluation.served import Served

SILENT: Progress = Silent()
HARNESS = "lm-eval:"


@checks_options
def evaluate(
    model: "str | Path | LanguageModel | Served",
    tasks: Sequence[str | Path | Task],
    *,
    out: str | Path | None = None,
    limit: int | None = None,
    batch_size: "BatchSize" = "auto",
    device: "Device" = "auto",
    dtype: "Dtype" = "float32",
    scoring: "Scoring" = "sum",
    prompt: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> Report:
    """Measure a model on tasks.

    - `model`: a folder, a model that `cuvee.evaluation.load_model` has loaded, which keeps its own device and dtype, or
      a model that `cuvee.evaluation.served.open_server` has reached.
    - `tasks`: names of bundled tasks, files, or `Task`s.
    - `out`: a folder for the report, a submission and all answers. Answers are written as they come: a second run
      computes only those that no run with the same model, item, prompt, dtype, device and scoring has given.
    - `limit`: how many items of each task to take, from the first.
    - `batch_size`: sequences at a time, or "auto".
    - `scoring`: how the log-likelihood of a choice is counted; "sum" is that of the whole choice.
    - `prompt`: keys of a prompt that count in place of those of every task; by default those of the recipe that the
      model was merged by.

    Raises RecipeError for tasks and settings that are wrong and for a place that cannot be written to, OutOfBudget for
    a full disk; before the model is loaded where that can be known.
    """
    from cuvee.evaluation.answerer import answerer_of

    started = time.perf_counter()
    own_tasks, foreign_tasks = _loaded_tasks(tasks)
    _check_settings(limit, batch_size, scoring)
    folder = None if out is None else as_path(out, "out")
    if folder is not None:
        _check_output(folder, own_tasks)
    answerer = answerer_of(model, device, dtype)
    name = answerer.model.name
    own_prompt = answerer.own_prompt if prompt is None else prompt
    own_tasks = asked_by(own_prompt, own_tasks, name)
    run = _Run(answerer, scoring, batch_size, limit, folder, progress)
    before = answerer.reading
    progress.start("evaluate", sum(len(task.samples[:limit]) for task in own_tasks), "items")
    try:
        with answerer.at_work():
            results = run.judged_tasks(own_tasks)
            harnessed = run.harness(foreign_tasks, as_prompt(written_prompt(own_prompt, name), Prompt()))
    finally:
        progress.finish()
    results += harnessed.tasks
    reading = answerer.reading.since(before)
    notes = [*_prompt_notes(own_prompt), *_thought_notes(answerer, own_tasks), *_reading_notes(reading)]
    for result in results:
        notes += _notes(result, answerer.model.context_length, answerer.cuts)
    report = Report(
        model=name,
        model_digest=answerer.model.digest,
        tasks=results,
        macro=statistics.macro_score(results),
        settings=run.settings(),
        seconds=time.perf_counter() - started,
        tokens=sum(result.tokens for result in results),
        notes=(*notes, *harnessed.notes),
        reading=reading.to_json(),
        groups=harnessed.groups,
    )
    if folder is not None:
        report.write(folder)
    return report


def _loaded_tasks(tasks: Sequence[str | Path | Task]) -> tuple[list[Task], list[str]]:
    """Read our own tasks, and name the tasks of lm-eval."""
    if isinstance(tasks, str | Path):
        raise refused(tasks, "tasks", "a list of tasks", f"[{str(tasks)!r}] is a list of one")
    if not tasks:
        raise RecipeError("expected a list of at least one task")
    own: list[Task] = []
    foreign: list[str] = []
    for which, task in enumerate(tasks):
        if not isinstance(task, str | Path | Task):
            raise refused(task, f"tasks[{which}]", "a task's file or name, or a Task")
    for task in tasks:
        name = _name_at_lm_eval(task)
        if name is not None:
            foreign.append(name)
        elif isinstance(task, Task):
            own.append(task)
        else:
            own += load_tasks(task)
    _refuse_equal_names(own)
    return own, foreign


def _refuse_equal_names(tasks: Sequence[Task]) -> None:
    names = sorted(task.name for task in tasks)
    for name, next_name in itertools.pairwise(names):
        if name == next_name:
            hint = "a data file without task.yaml is named by its file"
            raise RecipeError(f"two tasks are named '{name}'", hint=hint)


def _name_at_lm_eval(task: str | Path | Task) -> str | None:
    """Return lm-eval's name of a task, with or without `lm-eval:` before it; None for our own tasks."""
    if isinstance(task, Task):
        return None
    name = str(task)
    if name.startswith(HARNESS):
        return name.removeprefix(HARNESS)
    if name in demo.task_names() or Path(name).suffix in SUFFIXES:
        return None
    from cuvee.evaluation.harness import is_a_task_of_lm_eval

    return name if is_a_task_of_lm_eval(name) else None


def asked_by(given: Mapping[str, Any], tasks: Sequence[Task], where: str) -> list[Task]:
    """Return tasks with the keys of a prompt in place of their own; `where` is for messages."""
    written = written_prompt(given, where)
    return [replace(task, prompt=as_prompt(written, task.prompt)) for task in tasks]


def _prompt_notes(given: Mapping[str, Any]) -> Iterator[str]:
    if given:
        yield f"asked as the model's recipe or the caller says, not as the tasks do: {', '.join(given)}"


def _thought_notes(answerer: "Answerer", tasks: Iterable[Task]) -> Iterator[str]:
    """Yield the tasks whose choices were scored where the chat template has the model think, not answer."""
    from cuvee.evaluation.model import LanguageModel
    from cuvee.evaluation.turns import thought_opened

    if not isinstance(answerer.model, LanguageModel):
        return
    for task in tasks:
        choices = [sample for sample in task.samples if sample.eval_type == "multiple_choice"]
        scores_chats = task.prompt.chat_template and task.prompt.answer_by == "likelihood"
        if not choices or not scores_chats:
            continue
        word = thought_opened(answerer.model.render(task.prompt, choices[0].input, choices[0].choices))
        if word is not None:
            yield (
                f"{task.name}: the chat template begins an answer with <{word}>, so choices were scored as thoughts; "
                "ask with answer_by: generation, or with chat_template: false"
            )


def _check_settings(limit: int | None, batch_size: object, scoring: str) -> None:
    from cuvee.evaluation.batches import check_batch_size
    from cuvee.evaluation.choices import check_scoring

    if limit is not None and limit < 1:
        raise RecipeError(f"limit is {limit}; it must be at least 1")
    check_batch_size(batch_size)
    check_scoring(scoring)


def _check_output(out: Path, tasks: Sequence[Task]) -> None:
    files = [out / REPORT_FILE, out / SUBMISSION_FILE]
    for task in tasks:
        files += [samples_file(out, task.name), batches_file(out, task.name)]
    check_writable(out, files)


@dataclass(frozen=True)
class _Run:
    """A model under the same settings for all tasks. `folder` keeps the answers; None keeps nothing."""

    answerer: "Answerer"
    scoring: "Scoring"
    batch_size: "BatchSize"
    limit: int | None
    folder: Path | None
    progress: Progress

    def settings(self) -> dict[str, str | int | None]:
        """Return the settings for the report, with the versions of the libraries that compute."""
        from importlib.metadata import version

        settings: dict[str, str | int | None] = {**self.answerer.deciding(self.scoring)}
        settings |= {"batch_size": self.batch_size, "limit": self.limit}
        return settings | {name: version(name) for name in ("torch", "transformers")}

    def judged_tasks(self, tasks: Sequence[Task]) -> tuple[TaskReport, ...]:
        reports = []
        for number, task in enumerate(tasks, 1):
            self.progress.note(f"task {number} of {len(tasks)}, {task.name}")
            reports.append(judged(task, self.answers(task)))
        return tuple(reports)

    def answers(self, task: Task) -> dict[str, Answer]:
        """Answer the samples of a task that no earlier run has answered; return all answers by id."""
        samples = {sample.id: sample for sample in task.samples}
        asked = list(samples)[: self.limit]
        file = _AnswerFile(self.folder, task, samples, self._keys(task))
        earlier = file.read()
        answers = dict(earlier.answers)
        missing = frozenset(name for name in asked if name not in answers)
        self.progress.advance(len(asked) - len(missing))
        for batch in self._computed(task, missing, earlier.batches):
            new = [answer for answer in batch if answer.id not in answers]
            file.append(batch, new)
            answers |= {answer.id: answer for answer in new}
            self.progress.advance(sum(answer.id in missing for answer in new))
        return {name: answers[name] for name in asked}

    def _computed(
        self, task: Task, missing: Collection[str], batches: Sequence[Sequence[str]]
    ) -> Iterator[list[Answer]]:
        return self.answerer.answers(task, missing, batches, scoring=self.scoring, batch_size=self.batch_size)

    def harness(self, names: Sequence[str], prompt: Prompt) -> "Harnessed":
        """Let lm-eval run its own tasks."""
        from cuvee.evaluation.harness import Harnessed

        if not names:
            return Harnessed((), (), ())
        return self.answerer.harness(names, prompt, limit=self.limit, batch_size=self.batch_size, out=self.folder)

    def _keys(self, task: Task) -> dict[str, str]:
        """Return for each sample the key under which runs share its answer."""
        model = f"{self.answerer.model.digest} {self.answerer.model.files_digest}"
        settings = self.answerer.deciding(self.scoring)
        prompt = task.prompt.to_json()
        return {sample.id: item_key(model, sample, prompt, settings) for sample in task.samples}


@dataclass(frozen=True)
class _AnswerFile:
    """The answers to a task in the folder of a run; without a folder, nothing is read and nothing is kept."""

    folder: Path | None
    task: Task
    samples: Mapping[str, Sample]
    keys: Mapping[str, str]

    def read(self) -> Kept:
        """Return the answers of earlier runs, and write them anew without lines that a killed run left torn."""
        if self.folder is None:
            return Kept({}, [])
        earlier = read_kept(self.folder, self.task.name, self.keys)
        rewrite(self.folder, self.task.name, self._lines(earlier.answers.values()), earlier.batches)
        return earlier

    def append(self, batch: Sequence[Answer], new: Sequence[Answer]) -> None:
        """Write the new answers of a batch, and the ids of the whole batch."""
        if self.folder is not None:
            ids = [answer.id for answer in batch]
            append(self.folder, self.task.name, self._lines(new), ids)

    def _lines(self, answers: Iterable[Answer]) -> list[dict[str, Any]]:
        lines = []
        for answer in answers:
            sample = self.samples[answer.id]
            scores = _metrics(self.task, sample, answer)
            lines.append(sample_line(sample, answer, scores, self.keys[answer.id]))
        return lines


def _metrics(task: Task, sample: Sample, answer: Answer) -> dict[str, float]:
    """Score an answer by the metrics of its task, as far as they apply to the sample."""
    scores = {}
    for name in task.metrics:
        score = metrics.score(name, sample, answer.prediction, answer.scores)
        if score is not None:
            scores[name] = score
    return scores


def judged(task: Task, answers: Mapping[str, Answer]) -> TaskReport:
    """Score answers by the targets of a task; samples without an answer are left out."""
    main = task.metrics[0]
    items: list[Item] = []
    by_metric: dict[str, list[float]] = {name: [] for name in task.metrics}
    for sample in task.samples:
        answer = answers.get(sample.id)
        if answer is None:
            continue
        scores = _metrics(task, sample, answer)
        items.append(Item(sample.id, answer.prediction, scores.get(main)))
        for name, score in scores.items():
            by_metric[name].append(score)
    truncated = sum(answer.cut > 0 for answer in answers.values())
    tokens = sum(answer.tokens for answer in answers.values())
    return TaskReport(
        task=task.name,
        digest=task.digest,
        weight=task.weight,
        scores=tuple(_means(task.name, by_metric)),
        items=tuple(items),
        truncated=truncated,
        tokens=tokens,
        prompt=task.prompt.to_json(),
        figures=figures_of(task, answers),
    )


def _means(task: str, by_metric: Mapping[str, Sequence[float]]) -> Iterator[Score]:
    """Yield the mean of each metric that applies to any item."""
    for name, values in by_metric.items():
        if values:
            yield statistics.as_score(task, name, statistics.mean(values))


def _reading_notes(reading: Reading) -> Iterator[str]:
    alone = reading.items.get("alone", 0)
    if alone:
        items = sum(reading.items.values())
        yield (
            f"{alone} of {items} items were read one sequence at a time, each from its start, for in "
            f"batches this model gives other answers; {reading.shown:,} tokens were computed in all"
        )


def _notes(result: TaskReport, context_length: int, side: str) -> Iterator[str]:
    n = len(result.items)
    blank = sum(item.prediction == "" for item in result.items)
    if result.truncated:
        yield f"{result.task}: {result.truncated} of {n} items were cut on the {side} to fit {context_length} tokens"
    if blank:
        yield f"{result.task}: {blank} of {n} predictions are blank"
    if result.figures:
        metrics = ", ".join(figure.metric for figure in result.figures)
        yield f"{result.task}: {metrics}: of the whole task, not in the macro average"
    if result.unscored == n and not result.figures:
        yield f"{result.task}: no targets; predictions only, not in the macro average"
    elif 0 < result.unscored < n:
        yield f"{result.task}: {result.unscored} of {n} items have no target and are not scored"
