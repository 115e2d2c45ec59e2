"""What the guide shows of each task: how many public items, how they are judged, one of them."""

from dataclasses import dataclass

from cuvee.errors import CuveeError
from cuvee.evaluation.load import load_task
from cuvee.evaluation.task import Sample, Task
from cuvee.submission.competition import Competition, CompetitionTask

LONGEST_EXAMPLE = 400


@dataclass(frozen=True)
class TaskCard:
    """A task in words; without `items` its public part is not on the server."""

    task: CompetitionTask
    items: int = 0
    metric: str = ""
    example: str = ""
    choices: tuple[str, ...] = ()
    answer: str = ""


def task_cards(competition: Competition) -> tuple[TaskCard, ...]:
    """Read the public part of each task, of which everybody has a copy."""
    return tuple(_card(competition, task) for task in competition.tasks)


def public_questions(competition: Competition) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return what each public item asks and what is right, by task; of tasks whose public part is on the server."""
    questions = {}
    for task in competition.tasks:
        loaded = _loaded(competition, task)
        if loaded is not None:
            samples = loaded.samples[: task.limit]
            questions[task.name] = tuple((_short(sample.input), _answer(sample)) for sample in samples)
    return questions


def _loaded(competition: Competition, task: CompetitionTask) -> Task | None:
    place = competition.folder / task.public
    if not place.is_file():
        return None
    try:
        return load_task(place)
    except CuveeError:
        return None


def _answer(sample: Sample) -> str:
    return "" if sample.target is None else _short(sample.text_of(sample.target))


def _card(competition: Competition, task: CompetitionTask) -> TaskCard:
    loaded = _loaded(competition, task)
    if loaded is None:
        return TaskCard(task)
    first, items = loaded.samples[0], len(loaded.samples)
    return TaskCard(
        task,
        min(items, task.limit or items),
        (task.metrics or loaded.metrics)[0].replace("_", " "),
        _short(first.input),
        tuple(_short(choice) for choice in first.choices[:8]),
        _answer(first),
    )


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_EXAMPLE else f"{text[:LONGEST_EXAMPLE]}…"
