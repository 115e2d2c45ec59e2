"""Tasks that are asked in the same batches, and those that are not."""

from dataclasses import replace

import pytest

from cuvee import demo
from cuvee.evaluation.answers import answer
from cuvee.evaluation.model import LanguageModel, load_model
from cuvee.evaluation.suite import load_tasks
from cuvee.evaluation.task import Task
from cuvee.search.together import Items, answered

NAMES = ("middle", "odd", "sort", "reverse")


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return load_model(demo.model_folder("sort"), device="cpu")


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return [task for name in NAMES for task in load_tasks(name)]


def some_items(tasks: list[Task]) -> Items:
    return {task.name: [sample.id for sample in task.samples[place : place + 7]] for place, task in enumerate(tasks)}


def assert_as_alone(model: LanguageModel, tasks: list[Task]) -> None:
    items = some_items(tasks)
    answers = answered(model, tasks, items)
    assert {name: list(by_id) for name, by_id in answers.items()} == items
    for task in tasks:
        missing = items[task.name]
        batches = answer(model, task.samples, task.prompt, scoring="sum", batch_size="auto", missing=missing)
        alone = {each.id: each for batch in batches for each in batch}
        for item in missing:
            together = answers[task.name][item]
            assert (together.prediction, together.text) == (alone[item].prediction, alone[item].text)


def test_answers_are_those_of_each_task_alone(model: LanguageModel, tasks: list[Task]) -> None:
    assert_as_alone(model, tasks)


def test_items_of_one_name_in_two_tasks_are_told_apart(model: LanguageModel, tasks: list[Task]) -> None:
    numbered = [
        replace(task, samples=tuple(replace(sample, id=str(n)) for n, sample in enumerate(task.samples)))
        for task in tasks
    ]
    assert_as_alone(model, numbered)


def test_tasks_with_prompts_of_their_own_keep_them(model: LanguageModel, tasks: list[Task]) -> None:
    shorter = replace(tasks[2], prompt=replace(tasks[2].prompt, max_new_tokens=2))
    assert_as_alone(model, [*tasks[:2], shorter, *tasks[3:]])


def test_what_is_drawn_for_an_item_does_not_change(model: LanguageModel, tasks: list[Task]) -> None:
    drawn = [replace(task, prompt=replace(task.prompt, temperature=1.5)) for task in tasks]
    assert_as_alone(model, drawn)
