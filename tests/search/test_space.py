"""Spaces: what a person may write, which recipes come out, what is refused."""

from pathlib import Path

import pytest
import yaml

import cuvee
from cuvee.catalogue import registry
from cuvee.errors import RecipeError
from cuvee.search.setting import budget_of
from cuvee.search.space import arms_of, family_space, model_names, parents_of, parse_space

from .surrogate import space

ANY_NUMBER = sorted(key for key, method in registry().items() if method.models[0] <= 3 and method.models[1] is None)


@pytest.mark.parametrize("method", ANY_NUMBER)
@pytest.mark.parametrize("weights", [None, {"roles": ["self_attn"]}, {"per": "all", "over": "whole"}])
def test_every_value_of_every_dimension_gives_a_recipe(method: str, weights: dict[str, object] | None) -> None:
    search = {"method": method} | ({"weights": weights} if weights else {})
    (arm,) = arms_of(space(search=search))
    for point in (0, -1):
        values = {dimension.name: dimension.line(3)[point] for dimension in arm.dimensions}
        recipe = cuvee.recipe_from_text(arm.recipe(values), strict=True)
        assert recipe.merge_method == method


def test_weights_over_depth_become_gradients_of_each_model() -> None:
    (arm,) = arms_of(space(search={"method": "task_arithmetic"}))
    values = {dimension.name: 0.1 * place for place, dimension in enumerate(arm.dimensions)}
    document = yaml.safe_load(arm.recipe(values))
    gradients = [model["parameters"]["weight"] for model in document["models"]]
    assert gradients == [[0.0, 0.1, 0.2], [0.3, 0.4, 0.5], [0.6, 0.7, 0.8]]


def test_a_recipe_says_four_digits() -> None:
    (arm,) = arms_of(space(search={"method": "ties", "parameters": {"lambda": [0.2, 2.0]}}))
    values = {dimension.name: dimension.line(2)[0] for dimension in arm.dimensions} | {"lambda": 0.923456789}
    assert yaml.safe_load(arm.recipe(values))["parameters"]["lambda"] == 0.9235


def test_models_that_are_left_out_are_not_in_the_recipe_but_enough_stay() -> None:
    (arm,) = arms_of(space(search={"method": "task_arithmetic", "include": {"at_least": 2}}))
    values = dict(arm.default)
    for name in ("red", "green", "blue"):
        values[f"include.{name}"] = name == "blue"
    models = [model["model"] for model in yaml.safe_load(arm.recipe(values))["models"]]
    assert models == ["red", "blue"]


def test_a_folder_that_is_called_as_a_bundled_task_is_not_that_task(tmp_path: Path) -> None:
    (tmp_path / "sort").mkdir()
    text = "base_model: b\nmodels: [sort, c]\ntasks: [sort]"
    read = parse_space(text, folder=tmp_path, where="space.yaml")
    assert read.tasks == ["sort"]
    assert read.models[0].model == str(tmp_path / "sort")


def test_models_of_one_name_are_told_apart() -> None:
    two = family_space("base", ["org/a", "other/a", "org/b"], ["sort"], [])
    assert model_names(two) == ("a 1", "a 2", "b")


def test_an_expert_that_is_named_twice_is_refused() -> None:
    with pytest.raises(RecipeError, match="'org/a' is named twice"):
        family_space("base", ["org/a", "org/b", "org/a"], ["sort"], [])


def test_an_expert_called_base_is_another_parent_than_the_base() -> None:
    names = [name for name, _ in parents_of(family_space("org/base", ["mine/base", "mine/a"], ["sort"], []))]
    assert names == ["parent base model", "parent base", "parent a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "the file': expected 'name: value' lines"),
        ("base_model: b\nmodels: [a, c]\nbase_model: c\ntasks: [t]", "space.yaml:3: key 'base_model' is written twice"),
        ("base_model: b\nmodels: [a, c]\ntasks: [t]\nsearch: {method: ties, racign: no}", "space.yaml:4: unknown key"),
        ("base_model: b\nmodels: [a]\ntasks: [t]\nsearhc: {}", "searhc"),
        ("base_model: b\nmodels: [a, c]\ntasks: [t]\nsearch: {method: tie}", "did you mean 'ties'"),
        ("base_model: b\nmodels: [a, c]\ntasks: [t]\nsearch: {parameters: {densty: 0.5}}", "takes 'densty'"),
        ("base_model: b\nmodels: [a, c, d]\ntasks: [t]\nsearch: {method: slerp}", "does not merge 3 models"),
        ("base_model: b\nmodels: [a, c]\ntasks: [t]\nsearch: {weights: {range: [1, 0]}}", "the lower one first"),
        ("base_model: b\nmodels: [a, c]\ntasks: [t]\nsearch: {parameters: {lambda: {log: [0, 1]}}}", "above 0"),
        ("base_model: b\nmodels: [a, c]\ntasks: [t]\nanchors: [parent]", "found 'parent'"),
        ("base_model: b\nmodels: [a, c]\ntasks: [t]\nanchors: [{fiel: r.yaml}]", "found '{'fiel': 'r.yaml'}'"),
        ("base_model: b\nmodels: [a, c]\ntasks: [t]\nsearch: {align: {}}", "needs a `text`"),
        ("base_model: b\nmodels: []\ntasks: [t]", "models"),
        ("base_model: [", "not YAML"),
    ],
)
def test_a_space_that_means_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message.replace("[", r"\[")):
        parse_space(text, folder=Path(), where="space.yaml")


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [("200", 200, "candidates"), ("30m", 1800, "seconds"), ("1.5h", 5400, "seconds"), ("50Mtok", 5e7, "tokens")],
)
def test_budgets(text: str, amount: float, unit: str) -> None:
    budget = budget_of(text)
    assert (budget.amount, budget.unit) == (amount, unit)


@pytest.mark.parametrize("text", ["0", "-3", "3 days", "", "1e3", "Mtok"])
def test_a_budget_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="expected a budget"):
        budget_of(text)
