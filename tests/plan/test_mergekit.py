"""What a recipe for mergekit gives otherwise here is said in the plan, and only of such a recipe."""

from pathlib import Path

import pytest

import cuvee
from cuvee.plan.mergekit import differences
from cuvee.testing import random_weights, write_model

MODELS = "models: [{model: a}, {model: b}]\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for i, name in enumerate(("base", "a", "b")):
        write_model(tmp_path / name, random_weights(i), dtype="BF16")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(text: str) -> str:
    return " | ".join(differences(cuvee.make_plan(cuvee.recipe_from_text(text))))


def test_nothing_differs_where_nothing_is_rounded_or_drawn(here: Path) -> None:
    text = "merge_method: linear\nbase_model: base\nmodels: [{model: base}, {model: a}]\nparameters: {weight: 1}\n"
    assert said(text + "dtype: float32\n") == ""


def test_what_differs_is_named_by_method_type_and_order(here: Path) -> None:
    assert "computed in float32" in said(f"merge_method: linear\n{MODELS}parameters: {{weight: 1}}\ndtype: bfloat16\n")
    assert "from the first model, a" in said(f"merge_method: linear\n{MODELS}parameters: {{weight: 1}}\n")
    random = said(f"merge_method: dare_ties\nbase_model: base\n{MODELS}parameters: {{weight: 1, density: 0.5}}\n")
    assert "other random masks" in random
    assert "kept by position" in said(f"merge_method: ties\nbase_model: base\n{MODELS}parameters: {{weight: 1}}\n")


def test_a_recipe_of_our_own_is_not_compared(here: Path) -> None:
    assert said(f"merge_method: linear\nsemantics: paper\n{MODELS}parameters: {{weight: 1}}\n") == ""
