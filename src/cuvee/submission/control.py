"""A control: one of the competition's own models judged here, to see whether this machine can judge at all.

Where a submission fails and nobody knows why, the control tells whose fault it is. It takes the way that submissions
take: a merge of one model in a sandbox, and answers to the first items of each task in another.
"""

import json
from dataclasses import replace
from pathlib import Path

from cuvee.errors import CuveeError, PlatformError
from cuvee.progress import Progress
from cuvee.submission.build import Rejection, Unclear, answer_inside, limited_work, merge_inside
from cuvee.submission.competition import Competition, Model
from cuvee.submission.expected import ControlScore
from cuvee.submission.facts import ADAPTER_CONFIG
from cuvee.submission.hardware import this_machine
from cuvee.submission.measure import Parts, load_parts, measure
from cuvee.submission.pack import RECIPE, Manifest, Submission
from cuvee.submission.sandbox import Limits, Sandbox
from cuvee.version import __version__

FEW, ENOUGH = 2, 16
"""Items of each task: few show that a machine judges at all, enough of them how it scores."""


def judge_a_parent(
    competition: Competition, sandbox: Sandbox, limits: Limits, workdir: Path, progress: Progress, *, items: int = FEW
) -> ControlScore:
    """Judge a whole model of the competition's on the first public items of each task; return its scores.

    Raises PlatformError if that fails, for whatever reason: then this machine cannot judge. It is raised, too, where
    the competition has no whole model.
    """
    model = whole_model(competition)
    if model is None:
        raise PlatformError("the competition has no model of its own that could be judged in its place")
    place = competition.folder.absolute() / model.folder
    recipe = f"merge_method: passthrough\nmodels:\n  - model: {json.dumps(str(place))}\n"
    manifest = Manifest("control", "recipe", competition.name, __version__, {})
    submission = Submission(manifest, {RECIPE: recipe.encode()})
    try:
        parts = _first_items(load_parts(competition, None), items)
        with limited_work(workdir, limits.disk_bytes):
            built = merge_inside(submission, {str(place): place}, sandbox, limits, workdir, progress)
            answered = answer_inside(built.folder, parts.asked(), sandbox, limits, workdir, progress)
            measured = measure(parts, answered.folder)
    except (Rejection, Unclear, CuveeError) as failure:
        raise PlatformError(f"a model of the competition cannot be judged here: {failure}") from failure
    except Exception as error:  # a door: a model of the competition fails for no reason but this machine's
        message = f"a model of the competition cannot be judged here: {type(error).__name__}: {error}"
        raise PlatformError(message) from error
    scores = measured.public.items if measured.public is not None else {}
    return ControlScore(model.name, scores, measured.predictions_digest, this_machine().versions)


def whole_model(competition: Competition) -> Model | None:
    """Return the competition's first model that is no adapter; None where it has none."""
    for model in competition.models:
        if not (competition.folder / model.folder / ADAPTER_CONFIG).exists():
            return model
    return None


def _first_items(parts: Parts, items: int) -> Parts:
    tasks = {name: replace(task, samples=task.samples[:items]) for name, task in parts.public.items()}
    return Parts(tasks, {})
