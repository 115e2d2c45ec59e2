"""Search spaces on a competition's texts: the texts become tasks, asked and judged like the tasks that they are like.

Private items are no part of this: a search sees the competition's texts, which everybody has.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from cuvee.errors import CuveeError, SubmissionError
from cuvee.evaluation import Sample, Task, load_task
from cuvee.evaluation.metrics import check_metrics, default_metrics
from cuvee.recipe.recipe import OF_COMPETITION, competition_text
from cuvee.search.space import WrittenSpace, read_space
from cuvee.submission.asked import Asked, asked_by_space
from cuvee.submission.competition import CalibrationText, Competition
from cuvee.submission.tuning import competition_near, places_of

REPORT = 0.25
"""The share of a text's rows that a search reports on where the space does not say it."""


def write_tasks(names: Sequence[str], competition: Competition, folder: Path) -> dict[str, Path]:
    """Write a task for each text, and return their files by the words that spaces have for them.

    Raises SubmissionError for a text that is no questions with answers: nothing can be searched by it.
    """
    folder.mkdir(parents=True)
    tasks = {}
    for text in competition.calibration:
        if text.name in names:
            tasks[OF_COMPETITION + text.name] = _write(_task_of(text, competition), folder)
    return tasks


def _task_of(text: CalibrationText, competition: Competition) -> Task:
    place = competition.folder / text.file
    samples = tuple(_samples(text, place))
    task = Task(text.name, samples, default_metrics(samples))
    if text.task is None:
        return task
    like = competition.task(text.task)
    public = load_task(competition.folder / like.public)
    asked = replace(public, name=text.name, samples=samples, weight=like.weight, metrics=like.metrics or public.metrics)
    try:
        check_metrics(asked.metrics, samples, where=str(place))
    except CuveeError:
        return replace(asked, metrics=task.metrics)  # choices are picked there, and here answers are written
    return asked


def _samples(text: CalibrationText, place: Path) -> Iterator[Sample]:
    for number, line in enumerate(place.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        row = _row(line)
        asked, target = row.get("input"), row.get("target")
        if not isinstance(asked, str) or not isinstance(target, str):
            message = f"the text '{text.name}' is no list of questions with answers, so nothing can be searched by it"
            raise SubmissionError(message, hint="name a text whose rows have 'input' and 'target'")
        yield Sample(f"{text.name}-{number:06d}", asked, "generation", target=target)


def _row(line: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _write(task: Task, folder: Path) -> Path:
    rows = []
    for sample in task.samples:
        row = {"id": sample.id, "input": sample.input, "eval_type": sample.eval_type, "target": sample.target}
        rows.append(json.dumps(row, ensure_ascii=False))
    (folder / f"{task.name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    prompt = json.loads(json.dumps(task.prompt.to_json()))
    content = {
        "name": task.name,
        "data": f"{task.name}.jsonl",
        "metrics": list(task.metrics),
        "weight": task.weight,
        "prompt": prompt,
    }
    path = folder / f"{task.name}.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def space_to_run(space: WrittenSpace, tasks: Mapping[str, Path]) -> WrittenSpace:
    """Return a space whose tasks are the files that texts have become, with nothing private to report on."""
    report = space.items.report if isinstance(space.items.report, float) else REPORT
    items = space.items.model_copy(update={"report": report})
    return space.model_copy(update={"tasks": [str(tasks[task]) for task in space.tasks], "items": items})


def space_at_home(file: Path, out: Path) -> tuple[WrittenSpace, dict[str, Path]]:
    """Return the space of a file as the judge would search it, and its texts; a file without such texts as it is.

    The texts become tasks in a hidden folder beside `out`, which stays for the search to go on. Raises RecipeError.
    """
    space = read_space(file)
    named = [name for name in map(competition_text, space.tasks) if name is not None]
    if not named:
        return space, {}
    asked = asked_by_space(file.read_text(encoding="utf-8"), folder=file.parent, source=str(file))
    competition = competition_near(file.parent, named[0], str(file))
    names = tuple(asked.hashes(competition))
    folder = out.with_name(f".{out.name}.tasks")
    shutil.rmtree(folder, ignore_errors=True)
    tasks = write_tasks(texts_named(asked), competition, folder)
    return space_to_run(space, tasks), places_of(names, competition)


def texts_named(asked: Asked) -> tuple[str, ...]:
    """Return the names of the texts that a space names as tasks."""
    tasks = asked.space.tasks if asked.space else ()
    named = list(map(competition_text, tasks))
    return tuple(dict.fromkeys(name for name in named if name is not None))
