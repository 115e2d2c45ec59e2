"""Several models on the same tasks, spread over the slots of an executor: a lost slot costs one model at most.

Every machine needs the models and tasks, and the folder of the output, under the same paths.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blake3 import blake3

from cuvee.engine.plain import loadable_folder
from cuvee.errors import EvaluationError, RecipeError
from cuvee.evaluation.report import Report
from cuvee.evaluation.run import evaluate
from cuvee.executor import Executor, Here, call_each
from cuvee.hub import Hub
from cuvee.progress import Progress, Silent, Within

SILENT: Progress = Silent()


@dataclass(frozen=True)
class Work:
    """The evaluation of a model as it is sent to another process: names, paths and plain values.

    `current` is the current folder of the caller, from which relative paths are meant. `options` are those of
    `evaluate`. Without `own_prompts` the tasks' prompts count, whatever recipe the model was merged by.
    """

    model: str
    tasks: tuple[str, ...]
    out: Path | None
    current: Path
    offline: bool
    own_prompts: bool
    options: Mapping[str, Any]
    progress: Progress = SILENT


@dataclass(frozen=True)
class Measured:
    """A model with its report, or a sentence that says why there is none. `folder` has the files of its output."""

    model: str
    folder: Path | None
    report: Report | None
    failure: str

    @property
    def error(self) -> EvaluationError | None:
        """The failure as an error that names the model, once."""
        if not self.failure:
            return None
        names_it = self.failure.startswith(f"{self.model}: ")
        return EvaluationError(self.failure, where=None if names_it else self.model)


def evaluate_several(
    models: Sequence[str],
    tasks: Sequence[str],
    executor: Executor,
    *,
    out: Path | None = None,
    offline: bool = False,
    own_prompts: bool = True,
    progress: Progress = SILENT,
    **options: Any,
) -> tuple[Measured, ...]:
    """Evaluate models as `evaluate` does each of them, with its `options`; return the outcomes in the models' order.

    `out` is where `folders_of` puts a folder for each: answers that are there are not computed again. A model that
    cannot be measured does not keep the others from it. Raises RecipeError for a model that is named twice.
    """
    works = []
    for model, folder in zip(models, folders_of(models, out), strict=True):
        works.append(Work(model, tuple(tasks), folder, Path.cwd(), offline, own_prompts, options))
    if isinstance(executor, Here):  # it can hear of every item
        return tuple(_heard_here(works, executor, progress))
    outcomes: dict[int, Measured] = {}
    progress.start("evaluate", len(works), "models")
    try:
        for place, done in call_each(executor, measured, works):
            outcomes[place] = Measured(models[place], works[place].out, done.value, done.failure)
            progress.note(f"{models[place]}: {'failed' if done.failure else 'done'}")
            progress.advance(1)
    finally:
        progress.finish()
    return tuple(outcomes[place] for place in range(len(works)))


def folders_of(models: Sequence[str], out: Path | None) -> tuple[Path | None, ...]:
    """Return the folder in `out` of each model: its name, and letters of its path where several have that name.

    A single model has `out` to itself. Raises RecipeError for a model that is named twice.
    """
    for place, model in enumerate(models):
        if model in models[:place]:
            raise RecipeError(f"'{model}' is named twice", hint="name each model once")
    if out is None or len(models) == 1:
        return (out,) * len(models)
    names = [re.sub(r"[^\w.@+-]+", "-", model.rstrip("/").rpartition("/")[2]) for model in models]
    return tuple(out / _told_apart(name, model, names) for name, model in zip(names, models, strict=True))


def measured(work: Work) -> Report:
    """Evaluate a model in the current folder of its caller: a function to submit to an executor."""
    from cuvee.evaluation.model import own_prompt

    with chdir(work.current):
        folder = loadable_folder(work.model, Hub(offline=work.offline), work.progress)
        prompt = own_prompt(folder) if work.own_prompts else {}
        return evaluate(folder, work.tasks, out=work.out, prompt=prompt, progress=work.progress, **work.options)


def _heard_here(works: Sequence[Work], executor: Here, progress: Progress) -> Iterator[Measured]:
    heard = []
    for number, work in enumerate(works, start=1):
        heard.append(replace(work, progress=Within(progress, f"model {number} of {len(works)}")))
    for place, done in call_each(executor, measured, heard):
        yield Measured(works[place].model, works[place].out, done.value, done.failure)


def _told_apart(name: str, model: str, names: Sequence[str]) -> str:
    if names.count(name) == 1:
        return name
    return f"{name}-{blake3(model.encode()).hexdigest()[:8]}"
