"""What the guide shows of each task: how many public items, how they are judged, one of them."""

from dataclasses import dataclass

from cuvee.errors import CuveeError
from cuvee.evaluation.task import load_task
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


def _card(competition: Competition, task: CompetitionTask) -> TaskCard:
    place = competition.folder / task.public
    if not place.is_file():
        return TaskCard(task)
    try:
        loaded = load_task(place)
    except CuveeError:
        return TaskCard(task)
    first = loaded.samples[0]
    answer = "" if first.target is None else first.text_of(first.target)
    return TaskCard(
        task,
        min(len(loaded.samples), task.limit or len(loaded.samples)),
        (task.metrics or loaded.metrics)[0].replace("_", " "),
        _short(first.input),
        tuple(_short(choice) for choice in first.choices[:8]),
        _short(answer),
    )


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_EXAMPLE else f"{text[:LONGEST_EXAMPLE]}…"
