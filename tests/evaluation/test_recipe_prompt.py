"""A recipe says how its output is to be asked, and what it says counts in place of the task's prompt."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import cuvee
from cuvee.api import recipe_from_text
from cuvee.errors import EvaluationError, RecipeError
from cuvee.evaluation import Prompt, Sample, Shot, Task, evaluate

TASK = Task(
    "choices",
    (Sample("0", "What did the fox do?", "multiple_choice", ("run", "hide", "sleep"), 1),),
    ("accuracy",),
    prompt=Prompt(template="Q: {input}", system="Be brief."),
)
ASKED = {"template": "{input} So:", "few_shot": [{"input": "And the dog?", "target": "bark"}], "extract": ["(a)"]}


def written(folder: Path, **more: object) -> str:
    return yaml.safe_dump(
        {"merge_method": "linear", "models": [{"model": str(folder)}], "parameters": {"weight": 1}, **more}
    )


@pytest.fixture(scope="module")
def blend(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("merged") / "blend"
    return cuvee.merge(recipe_from_text(written(model_folder, prompt=ASKED)), out).folder


def test_what_the_recipe_says_counts_and_the_task_says_the_rest(blend: Path, model_folder: Path) -> None:
    report = evaluate(blend, [TASK])
    shown = Prompt("{input} So:", (Shot("And the dog?", "bark"),), system="Be brief.")
    asked = {name: value for name, value in report.tasks[0].prompt.items() if name != "extract"}
    assert asked == shown.to_json()
    assert report.tasks[0].prompt["extract"][0]["pattern"] == "(a)"
    assert "asked as the model's recipe or the caller says" in report.notes[0]
    by_task = evaluate(model_folder, [replace(TASK, prompt=replace(shown, extract=()))])
    assert report.tasks[0].items == by_task.tasks[0].items


def test_the_tasks_own_prompts_can_be_asked_for(blend: Path, model_folder: Path) -> None:
    report = evaluate(blend, [TASK], prompt={})
    assert report.tasks[0].prompt == TASK.prompt.to_json()
    assert not report.notes
    assert report.tasks == evaluate(model_folder, [TASK]).tasks


def test_the_record_has_it_and_the_recipes_digest_depends_on_it(blend: Path, model_folder: Path) -> None:
    assert json.loads((blend / "cuvee.json").read_text())["prompt"] == {
        **ASKED,
        "extract": [{"pattern": "(a)"}],
    }
    digests = {recipe_from_text(written(model_folder, **more)).digest for more in ({}, {"prompt": ASKED})}
    assert len(digests) == 2
    assert "prompt" not in yaml.safe_load((blend / "mergekit_config.yml").read_text())


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"templat": "{input}"}, "did you mean 'template'"),
        ({"template": "no place"}, "has no '{input}'"),
        ({"few_shot": [{"input": "a", "targets": "b"}]}, "did you mean 'target'"),
        ({"extract": ["("]}, "not a regular expression"),
        ({"max_new_tokens": 0}, "greater than or equal to 1"),
    ],
)
def test_a_mistake_is_told_with_its_line(model_folder: Path, prompt: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message.replace("(", r"\(").replace("{", r"\{")) as caught:
        recipe_from_text(written(model_folder, prompt=prompt))
    assert "recipe:" in str(caught.value)


def test_a_record_that_was_tampered_with_is_refused(blend: Path, make_copy: Callable[[Path], Path]) -> None:
    copy = make_copy(blend)
    record = json.loads((copy / "cuvee.json").read_text())
    (copy / "cuvee.json").write_text(json.dumps(record | {"prompt": {"template": 7}}))
    with pytest.raises(EvaluationError, match=r"prompt\.template"):
        evaluate(copy, [TASK])


@pytest.fixture
def make_copy(tmp_path: Path) -> Callable[[Path], Path]:
    import shutil

    return lambda folder: Path(shutil.copytree(folder, tmp_path / "copy"))
