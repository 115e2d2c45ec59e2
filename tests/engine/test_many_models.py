"""Many models of a base: their counts are made in several passes, so that a hundred fit the memory of ten."""

from pathlib import Path

import pytest

import cuvee
from cuvee.ops import order
from cuvee.plan.memory import DEFAULT_MEMORY, default_memory, fit

METHODS = {"ties": "weight: 0.5, density: 0.3", "breadcrumbs": "weight: 0.5, density: 0.3, gamma: 0.1"}


def recipe_of(family: Path, method: str, copies: int) -> cuvee.Recipe:
    lines = [f"- {{model: {family}/e{number % 3}, name: n{number}}}\n" for number in range(copies)]
    text = f"merge_method: {method}\nbase_model: {family}/base\nmodels:\n{''.join(lines)}"
    return cuvee.recipe_from_text(f"{text}parameters: {{{METHODS[method]}}}\n")


@pytest.mark.parametrize("semantics", ["mergekit", "paper"])
@pytest.mark.parametrize("method", METHODS)
def test_counts_of_some_models_at_a_time_choose_the_same(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, semantics: str
) -> None:
    recipe = recipe_of(family, method, 3)
    if semantics == "paper":
        recipe = cuvee.recipe_from_text(f"{recipe.text}semantics: paper\n")
    at_once = cuvee.merge(recipe, tmp_path / "at_once")
    monkeypatch.setattr(order, "ROWS_AT_ONCE", 2)
    assert cuvee.merge(recipe, tmp_path / "in_turn").digest == at_once.digest


@pytest.mark.parametrize("method", METHODS)
def test_a_hundred_models_fit_the_usual_memory(family: Path, method: str) -> None:
    plan = cuvee.make_plan(recipe_of(family, method, 100))
    assert default_memory(plan.steps, 2) == DEFAULT_MEMORY
    assert plan.forecast.least_memory_bytes < DEFAULT_MEMORY


def test_more_models_take_what_they_need(family: Path) -> None:
    plan = cuvee.make_plan(recipe_of(family, "ties", 300))
    budget = default_memory(plan.steps, 2)
    assert budget == plan.forecast.least_memory_bytes > DEFAULT_MEMORY
    assert fit(plan.steps, budget, 2)[1] == 1
