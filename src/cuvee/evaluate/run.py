"""Evaluates a model on tasks: answers every item, judges the answers, and says how sure the scores are."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cuvee.errors import RecipeError
from cuvee.evaluate import metrics, statistics
from cuvee.evaluate.output import check_writable
from cuvee.evaluate.report import REPORT_FILE, SUBMISSION_FILE, Item, Report, TaskReport
from cuvee.evaluate.samples import Answer, append_answers, read_answers, run_digest
from cuvee.evaluate.task import Task, load_task
from cuvee.progress import Progress, Silent

if TYPE_CHECKING:
    from cuvee.evaluate.batches import BatchSize
    from cuvee.evaluate.choices import Scoring
    from cuvee.evaluate.model import Device, Dtype, LanguageModel

SILENT: Progress = Silent()
SAMPLES_FOLDER = "samples"


def evaluate(
    model: "str | Path | LanguageModel",
    tasks: Sequence[str | Path | Task],
    *,
    out: str | Path | None = None,
    limit: int | None = None,
    batch_size: "BatchSize" = "auto",
    device: "Device" = "auto",
    dtype: "Dtype" = "float32",
    scoring: "Scoring" = "sum",
    progress: Progress = SILENT,
) -> Report:
    """Evaluate a model, a folder or one already loaded, on tasks.

    With `out`, the report, a submission and all answers are written there, the answers as they come: a second run with
    the same model, tasks, dtype, device and scoring computes only what is missing. `limit` takes the first items of
    each task. A loaded model keeps its own device and dtype. A place that cannot be written to raises RecipeError, a
    full disk OutOfBudget, before the model is loaded where that can be known.
    """
    from cuvee.evaluate.model import fitting_threads

    started = time.perf_counter()
    asked = _loaded_tasks(tasks)
    _check_settings(limit, batch_size, scoring)
    if out is not None:
        _check_output(Path(out), asked)
    loaded = _loaded_model(model, device, dtype)
    run = _Run(loaded, scoring, batch_size, limit, None if out is None else Path(out) / SAMPLES_FOLDER, progress)
    progress.start("evaluate", sum(len(task.samples[:limit]) for task in asked), "items")
    try:
        with fitting_threads(loaded):
            results = tuple(judged(task, run.answers(task)) for task in asked)
    finally:
        progress.finish()
    report = Report(
        model=loaded.name,
        model_digest=loaded.digest,
        tasks=results,
        macro=statistics.macro_score(results),
        settings=run.settings(),
        seconds=time.perf_counter() - started,
        tokens=sum(result.tokens for result in results),
        notes=tuple(note for result in results for note in _notes(result, loaded.context_length)),
    )
    if out is not None:
        report.write(Path(out))
    return report


def _loaded_tasks(tasks: Sequence[str | Path | Task]) -> list[Task]:
    if isinstance(tasks, str | Path) or not tasks:
        raise RecipeError("expected a list of at least one task")
    loaded = [task if isinstance(task, Task) else load_task(task) for task in tasks]
    names = [task.name for task in loaded]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecipeError(
            f"two tasks are named '{twice[0]}'", hint="a data file without task.yaml is named by its file"
        )
    return loaded


def _check_settings(limit: int | None, batch_size: object, scoring: str) -> None:
    from cuvee.evaluate.batches import check_batch_size
    from cuvee.evaluate.choices import check_scoring

    if limit is not None and limit < 1:
        raise RecipeError(f"limit is {limit}; it must be at least 1")
    check_batch_size(batch_size)
    check_scoring(scoring)


def _check_output(out: Path, tasks: Sequence[Task]) -> None:
    answers = [_answers_file(out / SAMPLES_FOLDER, task) for task in tasks]
    check_writable(out, [out / REPORT_FILE, out / SUBMISSION_FILE, *answers])


def _answers_file(folder: Path, task: Task) -> Path:
    return folder / f"{task.name}.jsonl"


def _loaded_model(model: "str | Path | LanguageModel", device: "Device", dtype: "Dtype") -> "LanguageModel":
    from cuvee.evaluate.model import LanguageModel, load_model

    return model if isinstance(model, LanguageModel) else load_model(model, device=device, dtype=dtype)


@dataclass(frozen=True)
class _Run:
    """One model under one set of settings. `folder` keeps the answers; None keeps nothing."""

    model: "LanguageModel"
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

        deciding = {"scoring": self.scoring, "dtype": self.model.dtype, "device": self.model.device.type}
        return {**deciding, "kit_style": kit_style(self.model)} if self.scoring == "kit" else deciding

    def answers(self, task: Task) -> dict[str, Answer]:
        """Answer the samples of a task that no earlier run has answered; return all answers by id."""
        from cuvee.evaluate.answers import answer

        path = None if self.folder is None else _answers_file(self.folder, task)
        digest = run_digest(self.model.digest, task.digest, {**self._deciding(), "files": self.model.files_digest})
        samples = task.samples[: self.limit]
        found = {} if path is None else read_answers(path, digest)
        self.progress.advance(sum(sample.id in found for sample in samples))
        done = frozenset(found)
        for batch in answer(
            self.model, samples, task.prompt, scoring=self.scoring, batch_size=self.batch_size, done=done
        ):
            new = [each for each in batch if each.id not in done]
            if path is not None:
                append_answers(path, digest, new)
            found.update((each.id, each) for each in new)
            self.progress.advance(len(new))
        return {sample.id: found[sample.id] for sample in samples}


def judged(task: Task, answers: Mapping[str, Answer]) -> TaskReport:
    """Score answers by the targets of a task; samples without an answer are left out."""
    asked = [sample for sample in task.samples if sample.id in answers]
    scored = [(sample, answers[sample.id].prediction) for sample in asked if sample.target is not None]
    by_metric = {name: [metrics.score(name, *pair) for pair in scored] for name in task.metrics}
    main = iter(by_metric[task.metrics[0]])
    items = [
        Item(sample.id, answers[sample.id].prediction, None if sample.target is None else next(main))
        for sample in asked
    ]
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
    )


def _notes(result: TaskReport, context_length: int) -> Iterator[str]:
    n = len(result.items)
    if result.truncated:
        yield f"{result.task}: {result.truncated} of {n} items were cut on the left to fit {context_length} tokens"
    if blank := sum(item.prediction == "" for item in result.items):
        yield f"{result.task}: {blank} of {n} predictions are blank"
    if result.unscored == n:
        yield f"{result.task}: no targets; predictions only, not in the macro average"
    elif result.unscored:
        yield f"{result.task}: {result.unscored} of {n} items have no target and are not scored"
