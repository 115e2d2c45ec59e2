"""What `import cuvee` offers takes paths, and says what it expected before it does anything."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

import cuvee
from cuvee.adapters.low_rank import Wanted
from cuvee.engine.combine import How
from cuvee.engine.extract import Extraction
from cuvee.engine.options import Options, RunOptions
from cuvee.errors import ArgumentError, RecipeError
from cuvee.evaluation.load import load_task
from cuvee.testing import random_weights, write_model

RECIPE = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n"
STAGES = f"name: inner\n{RECIPE}---\n{RECIPE.replace('model: a', 'model: inner')}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, name in enumerate("ab"):
        write_model(tmp_path / name, random_weights(seed))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "stages.yaml").write_text(STAGES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_recipe_may_be_a_path_wherever_one_is_expected(here: Path) -> None:
    read = cuvee.merge(cuvee.load_recipe("recipe.yaml"), "read")
    assert cuvee.merge("recipe.yaml", "from-text").digest == read.digest
    assert cuvee.merge(here / "recipe.yaml", here / "from-path").digest == read.digest
    assert cuvee.merge_stages("recipe.yaml", "one-stage").digest == read.digest
    plan = cuvee.make_plan("recipe.yaml")
    assert cuvee.run_plan(plan, "from-plan").digest == read.digest
    cuvee.merge_part("recipe.yaml", "parts", cuvee.Part(1, 1))
    assert cuvee.join("parts").digest == read.digest


def test_a_tilde_is_the_home_folder_in_every_path(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("USERPROFILE", str(here))
    assert cuvee.merge("~/recipe.yaml", "~/out").folder == here / "out"
    (here / "task.csv").write_text("id,input,eval_type\n1,a,generation\n")
    assert load_task("~/task.csv").name == "task"
    assert not (here / "~").exists()


def test_a_file_of_stages_may_be_a_path(here: Path) -> None:
    by_hand = cuvee.merge_stages(cuvee.load_stages("stages.yaml"), "by-hand")
    assert cuvee.merge_stages("stages.yaml", "from-path").digest == by_hand.digest
    with pytest.raises(RecipeError, match="expected one recipe, found 2 stages"):
        cuvee.merge("stages.yaml", "no")


api: Any = cuvee  # callers whose types nobody checks
HOW, EXTRACTION = How(), Extraction(Wanted(rank=2))
ONES = np.ones(3, np.float32)
WRONG: list[tuple[str, Callable[[], Any], str]] = [
    (
        "merge of text",
        lambda: api.merge(RECIPE, "out"),
        r"recipe: expected a Recipe or the path of one.*recipe_from_text",
    ),
    ("merge of a number", lambda: api.merge(3, "out"), "recipe: expected a Recipe or the path of one, found int 3"),
    ("merge to nothing", lambda: api.merge("recipe.yaml", None), "out: expected a path, found None"),
    ("merge to a zero", lambda: api.merge("recipe.yaml", "a\0b"), "out: expected a path, found str 'a\\\\x00b'"),
    ("make_plan", lambda: api.make_plan({}), "recipe: expected a Recipe or the path of one, found a dict"),
    ("run_plan", lambda: api.run_plan("recipe.yaml", "out"), "plan: expected a Plan, found str.*make_plan"),
    (
        "merge_part",
        lambda: api.merge_part("recipe.yaml", "out", "1/2"),
        r"part: expected a Part, found str '1/2'.*Part\(2, 3\)",
    ),
    (
        "merge_stages of names",
        lambda: api.merge_stages(["a.yaml"], "out"),
        r"recipes\[0\]: expected a Recipe.*load_stages",
    ),
    ("merge_stages of none", lambda: api.merge_stages([], "out"), "recipes: expected at least one Recipe"),
    ("join", lambda: api.join(3), "out: expected a path, found int 3"),
    ("load_recipe of text", lambda: api.load_recipe(RECIPE), "recipe: expected the path of a recipe.*recipe_from_text"),
    (
        "load_stages of a recipe",
        lambda: api.load_stages(cuvee.recipe_from_text(RECIPE)),
        "expected the path of recipes, found a Recipe",
    ),
    (
        "recipe_from_text of a file",
        lambda: api.recipe_from_text("recipe.yaml"),
        "expected the text of a recipe.*load_recipe",
    ),
    ("rebuild", lambda: api.rebuild(3, "m", "out", base="b"), "merged: expected a path, found int 3"),
    (
        "compare of one",
        lambda: api.compare("a"),
        r"models: expected a list of paths or names, found str 'a'.*\['a'\] is a list",
    ),
    (
        "compare of numbers",
        lambda: api.compare(["a", 3]),
        r"models\[1\]: expected a path or a name on a hub, found int 3",
    ),
    ("compare_adapters", lambda: api.compare_adapters("a"), "adapters: expected a list of at least two adapters"),
    (
        "combine_adapters",
        lambda: api.combine_adapters("a", [1], "out", HOW),
        "adapters: expected a list of paths or names",
    ),
    (
        "combine_adapters how",
        lambda: api.combine_adapters(["a"], [1], "out", "ties"),
        "how: expected a How of cuvee.engine.combine",
    ),
    (
        "extract_adapter",
        lambda: api.extract_adapter("a", None, "out", EXTRACTION),
        "base: expected a path or a name on a hub, found None",
    ),
    (
        "apply_adapter",
        lambda: api.apply_adapter("a", 3, "out"),
        "adapter: expected a path or a name on a hub, found int 3",
    ),
    ("evaluate", lambda: api.evaluate(3, ["sort"]), "model: expected a path, found int 3"),
    (
        "evaluate on one",
        lambda: api.evaluate("a", "sort"),
        r"tasks: expected a list of tasks, found str 'sort'.*\['sort'\]",
    ),
    (
        "evaluate on numbers",
        lambda: api.evaluate("a", [3]),
        r"tasks\[0\]: expected a task's file or name, or a Task, found int 3",
    ),
    (
        "merge_tensors by",
        lambda: api.merge_tensors(["ties"], [ONES]),
        "method: expected the name of a method, such as 'ties', found a list",
    ),
    (
        "merge_state_dicts",
        lambda: api.merge_state_dicts("linear", ["a", "b"], weight=1),
        "expected a mapping of tensors by their names, found str 'a'",
    ),
]


@pytest.mark.parametrize(("call", "message"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_what_cannot_be_meant_is_told_what_was_expected(here: Path, call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert caught.match(f"(?s){message}")
    assert isinstance(caught.value, TypeError)
    assert not (here / "out").exists()


MISTYPED: list[tuple[str, Callable[[], Any], str]] = [
    ("merge", lambda: api.merge("no.yaml", "out", thread=2), r"merge\(\) takes no option 'thread'.*'threads'"),
    ("merge_part", lambda: api.merge_part("no.yaml", "out", cuvee.Part(1, 1), overwite=True), "'overwrite'"),
    ("merge_stages", lambda: api.merge_stages("no.yaml", "out", shard_byte=1), "'shard_bytes'"),
    ("make_plan", lambda: api.make_plan("no.yaml", customcode=True), "'custom_code'"),
    ("run_plan", lambda: api.run_plan(None, "out", memory=1), r"run_plan\(\) takes no option 'memory'.*'memory_bytes'"),
    ("join", lambda: api.join("out", overwrit=True), "'overwrite'"),
    ("rebuild", lambda: api.rebuild("a", "b", "c", base="d", shards=1), r"rebuild\(\) takes no option 'shards'"),
    ("compare", lambda: api.compare(["a", "b"], thread=1), "'threads'"),
    ("compare_adapters", lambda: api.compare_adapters(["a"], hubs=None), "'hub'"),
    ("combine_adapters", lambda: api.combine_adapters(["a"], [1], "o", HOW, thread=1), "'threads'"),
    ("extract_adapter", lambda: api.extract_adapter("a", "b", "o", EXTRACTION, thread=1), "'threads'"),
    ("apply_adapter", lambda: api.apply_adapter("a", "b", "o", thread=1), "'threads'"),
    ("evaluate", lambda: api.evaluate("a", ["sort"], limt=5), r"evaluate\(\) takes no option 'limt'.*'limit'"),
    (
        "merge_tensors",
        lambda: api.merge_tensors("ties", [ONES], base=ONES, densty=1),
        "'ties' takes no parameter 'densty'.*'density'",
    ),
    ("merge_tensors option", lambda: api.merge_tensors("ties", [ONES], base=ONES, semantic="paper"), "'semantics'"),
    (
        "merge_state_dicts",
        lambda: api.merge_state_dicts("ties", [], thread=1),
        "'ties' takes no parameter 'thread'.*'threads'",
    ),
]


@pytest.mark.parametrize(("call", "message"), [case[1:] for case in MISTYPED], ids=[case[0] for case in MISTYPED])
def test_a_mistyped_option_is_found_before_anything_is_looked_at(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=f"(?s){message}"):
        call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory_bytes": "2GB"}, "'memory_bytes': expected int or None, found str '2GB'"),
        ({"threads": True}, "'threads': expected int, found True"),
        ({"overwrite": "yes"}, "'overwrite': expected bool, found str 'yes'"),
    ],
)
def test_an_option_of_another_type_is_found_before_planning(options: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        cuvee.merge("no.yaml", "out", **options)


def test_the_numbers_of_numpy_are_numbers(here: Path) -> None:
    assert cuvee.merge("recipe.yaml", "out", threads=np.int64(1)).digest  # type: ignore[arg-type]  # NumPy's own type


def test_the_keywords_of_a_merge_are_the_options_that_its_docstring_describes() -> None:
    assert get_type_hints(RunOptions) == get_type_hints(Options)
    described = re.findall(r"^- `(\w+)`:", inspect.getdoc(Options) or "", re.MULTILINE)
    assert described == list(get_type_hints(Options))


def test_evaluate_is_a_plain_function_that_shows_its_arguments() -> None:
    assert inspect.isfunction(cuvee.evaluate)
    assert list(inspect.signature(cuvee.evaluate).parameters)[:3] == ["model", "tasks", "out"]
