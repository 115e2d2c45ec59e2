"""Recipes with a sweep: which merges they make, and what is said of a sweep that makes none."""

from pathlib import Path

import pytest

import cuvee
from cuvee.catalogue import language
from cuvee.errors import RecipeError
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.sweep import parse_sweep

RECIPE = (
    "merge_method: ties\nbase_model: base\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1, density: 0.5}\n"
)


def swept(sweep: str) -> dict[str, Recipe]:
    return parse_sweep(RECIPE + sweep, language())


def test_every_combination_of_values_is_a_merge() -> None:
    merges = swept("sweep: {parameters.density: [0.2, 0.5], parameters.lambda: [0.5, 1]}")
    assert list(merges) == [
        "density=0.2,lambda=0.5",
        "density=0.2,lambda=1",
        "density=0.5,lambda=0.5",
        "density=0.5,lambda=1",
    ]


def test_merges_may_be_listed() -> None:
    merges = swept("sweep:\n- {merge_method: task_arithmetic, parameters.density: null}\n- {seed: 3}\n")
    assert [recipe.merge_method for recipe in merges.values()] == ["task_arithmetic", "ties"]
    assert merges["seed=3"].seed == 3


def test_entries_of_lists_are_counted() -> None:
    merges = swept("sweep: {models.1.parameters.weight: [0.25]}")
    alone = cuvee.recipe_from_text(RECIPE.replace("{model: b}", "{model: b, parameters: {weight: 0.25}}"))
    assert merges["weight=0.25"].digest == alone.digest


def test_the_text_of_a_merge_is_a_recipe_of_its_own() -> None:
    for recipe in swept("sweep: {parameters.density: [0.2, 1.0e-3], seed: [1]}").values():
        assert "sweep" not in recipe.text
        assert cuvee.recipe_from_text(recipe.text).digest == recipe.digest


def test_a_recipe_without_a_sweep_is_one_merge_named_as_the_file(tmp_path: Path) -> None:
    (tmp_path / "dense.yaml").write_text(RECIPE)
    assert list(cuvee.load_sweep(tmp_path / "dense.yaml")) == ["dense"]


def test_doors_for_one_recipe_say_who_takes_a_sweep() -> None:
    with pytest.raises(RecipeError, match=r"recipe:5.*makes several merges"):
        cuvee.recipe_from_text(RECIPE + "sweep: {seed: [1, 2]}")


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("sweep: {parameters.densty: [0.2]}", "takes no parameter 'densty'"),
        ("sweep: {models.2.parameters.weight: [1]}", "leads to no entry of a list of 2"),
        ("sweep: {merge_method.name: [1]}", "leads into a value"),
        ("sweep: {parameters.density: 0.2}", "expected places of the recipe"),
        ("sweep: []", "expected places of the recipe"),
        ("sweep: {parameters.density: []}", "expected places of the recipe"),
        ("sweep: [{seed: 1}, {seed: 1}]", "two merges of the sweep are 'seed=1'"),
        ("sweep: {sweep: [{seed: [1]}]}", "makes several merges"),
        ("sweep: {seed: [1, 2]}\n---\nmerge_method: linear", "do not go together"),
    ],
)
def test_a_sweep_that_makes_no_merges_is_refused_with_its_line(sweep: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        swept(sweep)


def test_a_wrong_value_is_shown_at_its_line_in_the_sweep() -> None:
    with pytest.raises(RecipeError, match="recipe:6"):
        swept("sweep:\n  parameters.density: [0.5, 3]\n")


def test_a_sweep_of_too_many_is_refused() -> None:
    values = list(range(40))
    with pytest.raises(RecipeError, match="more than 1000"):
        swept(f"sweep: {{seed: {values}, parameters.lambda: {values}}}")
