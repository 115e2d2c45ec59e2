"""Items of several tasks, answered in the same batches.

The fixed cost of a batch is paid once for all tasks, and batches of few items are the rule in a race.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from cuvee.evaluation.answers import answer
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.samples import Answer
from cuvee.evaluation.task import Sample, Task

Items = Mapping[str, Sequence[str]]
"""Ids of samples by the name of their task."""


def answered(model: LanguageModel, tasks: Sequence[Task], items: Items) -> dict[str, dict[str, Answer]]:
    """Ask the model the items, and return the answers by task and id. Raises EvaluationError."""
    answers: dict[str, dict[str, Answer]] = {}
    for group in _groups(tasks):
        if len(group) == 1:
            answers[group[0].name] = _alone(model, group[0], items[group[0].name])
        else:
            answers |= _together(model, group, items)
    return answers


def _groups(tasks: Sequence[Task]) -> list[list[Task]]:
    """Group tasks with the same prompt. A task stays alone if its texts are drawn, for an item's id decides them."""
    by_prompt: dict[Prompt, list[Task]] = {}
    drawn = []
    for task in tasks:
        if task.prompt.temperature > 0:
            drawn.append([task])
        else:
            by_prompt.setdefault(task.prompt, []).append(task)
    return [*by_prompt.values(), *drawn]


def _alone(model: LanguageModel, task: Task, ids: Sequence[str]) -> dict[str, Answer]:
    asked = frozenset(ids)
    answers = _by_id(model, [sample for sample in task.samples if sample.id in asked], task.prompt)
    return {item: answers[item] for item in ids}


def _together(model: LanguageModel, tasks: Sequence[Task], items: Items) -> dict[str, dict[str, Answer]]:
    samples: list[Sample] = []
    for task in tasks:
        asked = frozenset(items[task.name])
        own = [sample for sample in task.samples if sample.id in asked]
        samples += [replace(sample, id=_name(task, sample.id)) for sample in own]
    answers = _by_id(model, samples, tasks[0].prompt)
    by_task = {}
    for task in tasks:
        by_task[task.name] = {item: answers[_name(task, item)] for item in items[task.name]}
    return by_task


def _name(task: Task, item: str) -> str:
    """Name an item among those of all tasks. A task's name has no slash."""
    return f"{task.name}/{item}"


def _by_id(model: LanguageModel, samples: Sequence[Sample], prompt: Prompt) -> dict[str, Answer]:
    every = [sample.id for sample in samples]
    batches = answer(model, samples, prompt, scoring="sum", batch_size="auto", missing=every)
    return {each.id: each for each in chain.from_iterable(batches)}
