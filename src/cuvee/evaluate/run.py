"""Evaluates a model on tasks: answers every item, judges the answers, and says how sure the scores are."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cuvee import demo
from cuvee.arguments import as_path, checks_options, refused
from cuvee.errors import RecipeError
from cuvee.evaluate import metrics, statistics
from cuvee.evaluate.output import check_writable
from cuvee.evaluate.prompt import Prompt
from cuvee.evaluate.prompt_yaml import as_prompt, written_prompt
from cuvee.evaluate.reading import Reading
from cuvee.evaluate.report import REPORT_FILE, SUBMISSION_FILE, Item, Report, TaskReport
from cuvee.evaluate.samples import (
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
from cuvee.evaluate.suite import SUFFIXES, load_tasks
from cuvee.evaluate.task import Sample, Task
from cuvee.progress import Progress, Silent

if TYPE_CHECKING:
    from cuvee.evaluate.batches import BatchSize
    from cuvee.evaluate.choices import Scoring
    from cuvee.evaluate.harness import Harnessed
    from cuvee.evaluate.model import Device, Dtype, LanguageModel
    from cuvee.evaluate.served import Served

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

    - `model`: a folder, a model that `cuvee.evaluate.load_model` has loaded, which keeps its own device and dtype, or
      one that `cuvee.evaluate.served.open_server` has reached.
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
    from cuvee.evaluate.model import LanguageModel, fitting_threads

    started = time.perf_counter()
    asked, foreign = _loaded_tasks(tasks)
    _check_settings(limit, batch_size, scoring)
    if out is not None:
        _check_output(Path(out), asked)
    loaded = _loaded_model(model, device, dtype)
    own = loaded.own_prompt if prompt is None and isinstance(loaded, LanguageModel) else prompt or {}
    asked = asked_by(own, asked, loaded.name)
    counts = loaded.abilities.reading if isinstance(loaded, LanguageModel) else Reading()
    before = counts.copy()
    run = _Run(loaded, scoring, batch_size, limit, None if out is None else Path(out), progress)
    progress.start("evaluate", sum(len(task.samples[:limit]) for task in asked), "items")
    try:
        with fitting_threads(loaded) if isinstance(loaded, LanguageModel) else nullcontext():
            results = run.judged_tasks(asked)
            harnessed = run.harness(foreign, as_prompt(written_prompt(own, loaded.name), Prompt()))
    finally:
        progress.finish()
    results += harnessed.tasks
    reading = counts.since(before)
    report = Report(
        model=loaded.name,
        model_digest=loaded.digest,
        tasks=results,
        macro=statistics.macro_score(results),
        settings=run.settings(),
        seconds=time.perf_counter() - started,
        tokens=sum(result.tokens for result in results),
        notes=(
            *_prompt_notes(own),
            *_reading_notes(reading),
            *(note for result in results for note in _notes(result, loaded.context_length)),
            *harnessed.notes,
        ),
        reading=reading.to_json(),
        groups=harnessed.groups,
    )
    if out is not None:
        report.write(Path(out))
    return report


def _loaded_tasks(tasks: Sequence[str | Path | Task]) -> tuple[list[Task], list[str]]:
    """Read our own tasks, and name those that lm-eval has."""
    if isinstance(tasks, str | Path):
        raise refused(tasks, "tasks", "a list of tasks", f"[{str(tasks)!r}] is a list of one")
    if not tasks:
        raise RecipeError("expected a list of at least one task")
    for place, task in enumerate(tasks):
        if not isinstance(task, str | Path | Task):
            raise refused(task, f"tasks[{place}]", "a task's file or name, or a Task")
    foreign = [_name_at_lm_eval(task) for task in tasks]
    ours = [task for task, name in zip(tasks, foreign, strict=True) if name is None]
    loaded = [each for task in ours for each in ([task] if isinstance(task, Task) else load_tasks(task))]
    names = [task.name for task in loaded]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecipeError(
            f"two tasks are named '{twice[0]}'", hint="a data file without task.yaml is named by its file"
        )
    return loaded, [name for name in foreign if name is not None]


def _name_at_lm_eval(task: str | Path | Task) -> str | None:
    """Return what lm-eval calls a task: what follows `lm-eval:`, or a name that only lm-eval has; None for ours."""
    if isinstance(task, Task):
        return None
    name = str(task)
    if name.startswith(HARNESS):
        return name.removeprefix(HARNESS)
    if name in demo.task_names() or Path(name).suffix in SUFFIXES:
        return None
    from cuvee.evaluate.harness import is_a_task_of_lm_eval

    return name if is_a_task_of_lm_eval(name) else None


def asked_by(given: Mapping[str, Any], tasks: Sequence[Task], where: str) -> list[Task]:
    """Return tasks with the keys of a prompt in place of their own; `where` is for messages."""
    written = written_prompt(given, where)
    return [replace(task, prompt=as_prompt(written, task.prompt)) for task in tasks]


def _prompt_notes(given: Mapping[str, Any]) -> Iterator[str]:
    if given:
        yield f"asked as the model's recipe or the caller says, not as the tasks do: {', '.join(given)}"


def _check_settings(limit: int | None, batch_size: object, scoring: str) -> None:
    from cuvee.evaluate.batches import check_batch_size
    from cuvee.evaluate.choices import check_scoring

    if limit is not None and limit < 1:
        raise RecipeError(f"limit is {limit}; it must be at least 1")
    check_batch_size(batch_size)
    check_scoring(scoring)


def _check_output(out: Path, tasks: Sequence[Task]) -> None:
    answers = [file(out, task.name) for task in tasks for file in (samples_file, batches_file)]
    check_writable(out, [out / REPORT_FILE, out / SUBMISSION_FILE, *answers])


def _loaded_model(
    model: "str | Path | LanguageModel | Served", device: "Device", dtype: "Dtype"
) -> "LanguageModel | Served":
    from cuvee.evaluate.model import LanguageModel, load_model
    from cuvee.evaluate.served import Served

    if isinstance(model, LanguageModel | Served):
        return model
    return load_model(as_path(model, "model"), device=device, dtype=dtype)


@dataclass(frozen=True)
class _Run:
    """One model under one set of settings. `folder` keeps the answers; None keeps nothing."""

    model: "LanguageModel | Served"
    scoring: "Scoring"
    batch_size: "BatchSize"
    limit: int | None
    folder: Path | None
    progress: Progress

    def settings(self) -> dict[str, str | int | None]:
        from importlib.metadata import version

        packages = {name: version(name) for name in ("torch", "transformers")}
        return {**self._deciding(), "batch_size": self.batch_size, "limit": self.limit, **packages}

    def _deciding(self) -> dict[str, str]:
        """Return the settings on which the answers depend."""
        from cuvee.evaluate.kit import kit_style
        from cuvee.evaluate.served import Served

        if isinstance(self.model, Served):
            return {"scoring": self.scoring, **self.model.settings()}
        deciding = {"scoring": self.scoring, "dtype": self.model.dtype, "device": self.model.device.type}
        return {**deciding, "kit_style": kit_style(self.model)} if self.scoring == "kit" else deciding

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
        keys = self._keys(task)
        kept = Kept({}, []) if self.folder is None else read_kept(self.folder, task.name, keys)
        if self.folder is not None:
            known = [_line(task, samples[name], each, keys) for name, each in kept.answers.items()]
            rewrite(self.folder, task.name, known, kept.batches)
        found = dict(kept.answers)
        missing = frozenset(name for name in asked if name not in found)
        self.progress.advance(len(asked) - len(missing))
        for batch in self._computed(task, missing, kept.batches):
            new = [each for each in batch if each.id not in found]
            if self.folder is not None:
                lines = [_line(task, samples[each.id], each, keys) for each in new]
                append(self.folder, task.name, lines, [each.id for each in batch])
            found.update((each.id, each) for each in new)
            self.progress.advance(sum(each.id in missing for each in new))
        return {name: found[name] for name in asked}

    def _computed(
        self, task: Task, missing: Collection[str], batches: Sequence[Sequence[str]]
    ) -> Iterator[list[Answer]]:
        from cuvee.evaluate.answers import answer
        from cuvee.evaluate.served import Served

        model, scoring, size = self.model, self.scoring, self.batch_size
        if isinstance(model, Served):
            return model.answers(task.samples, task.prompt, scoring=scoring, batch_size=size, missing=missing)
        return answer(
            model, task.samples, task.prompt, scoring=scoring, batch_size=size, missing=missing, batches=batches
        )

    def harness(self, names: Sequence[str], prompt: Prompt) -> "Harnessed":
        """Let lm-eval run its own tasks."""
        from cuvee.evaluate.harness import Harnessed, run_lm_eval
        from cuvee.evaluate.served import Served

        if not names:
            return Harnessed((), (), ())
        if isinstance(self.model, Served):
            raise RecipeError("lm-eval's own tasks need a model in memory", hint="give its folder")
        return run_lm_eval(
            self.model, names, limit=self.limit, batch_size=self.batch_size, prompt=prompt, out=self.folder
        )

    def _keys(self, task: Task) -> dict[str, str]:
        model = f"{self.model.digest} {self.model.files_digest}"
        settings = self._deciding()
        return {each.id: item_key(model, each, task.prompt.to_json(), settings) for each in task.samples}


def _line(task: Task, sample: Sample, answer: Answer, keys: Mapping[str, str]) -> dict[str, Any]:
    return sample_line(sample, answer, _metrics(task, sample, answer), keys[sample.id])


def _metrics(task: Task, sample: Sample, answer: Answer) -> dict[str, float]:
    found = {name: metrics.score(name, sample, answer.prediction) for name in task.metrics}
    return {name: value for name, value in found.items() if value is not None}


def judged(task: Task, answers: Mapping[str, Answer]) -> TaskReport:
    """Score answers by the targets of a task; samples without an answer are left out."""
    pairs = [(sample, answers[sample.id]) for sample in task.samples if sample.id in answers]
    scored = [_metrics(task, *pair) for pair in pairs]
    main = task.metrics[0]
    items = [
        Item(sample.id, answer.prediction, found.get(main))
        for (sample, answer), found in zip(pairs, scored, strict=True)
    ]
    by_metric = {name: [found[name] for found in scored if name in found] for name in task.metrics}
    return TaskReport(
        task=task.name,
        digest=task.digest,
        weight=task.weight,
        scores=tuple(
            statistics.as_score(task.name, name, statistics.mean(scores))
            for name, scores in by_metric.items()
            if scores
        ),
        items=tuple(items),
        truncated=sum(answer.cut > 0 for answer in answers.values()),
        tokens=sum(answer.tokens for answer in answers.values()),
        prompt=task.prompt.to_json(),
    )


def _reading_notes(reading: Reading) -> Iterator[str]:
    alone = reading.items["alone"]
    if alone:
        yield (
            f"{alone} of {reading.items.total()} items were read one sequence at a time, each from its start, for in "
            f"batches this model gives other answers; {reading.shown:,} tokens were computed in all"
        )


def _notes(result: TaskReport, context_length: int) -> Iterator[str]:
    n = len(result.items)
    if result.truncated:
        yield f"{result.task}: {result.truncated} of {n} items were cut on the left to fit {context_length} tokens"
    if blank := sum(item.prediction == "" for item in result.items):
        yield f"{result.task}: {blank} of {n} predictions are blank"
    if result.figures:
        metrics = ", ".join(figure.metric for figure in result.figures)
        yield f"{result.task}: {metrics}: of the whole task, not in the macro average"
    if result.unscored == n and not result.figures:
        yield f"{result.task}: no targets; predictions only, not in the macro average"
    elif 0 < result.unscored < n:
        yield f"{result.task}: {result.unscored} of {n} items have no target and are not scored"
