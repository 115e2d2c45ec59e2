"""Recipes that say `align`: read, planned, merged in one go, and never merged without it in silence."""

from pathlib import Path

import pytest

from calibrate.conftest import experts
from cuvee import demo
from cuvee.api import load_recipe
from cuvee.calibrate import align, merge_aligned
from cuvee.calibrate.forecast import forecast_alignment
from cuvee.calibrate.settings import alignment
from cuvee.checkpoint import weights_digest
from cuvee.engine import merge
from cuvee.engine.peak import PeakMemory
from cuvee.errors import RecipeError
from cuvee.plan import make_plan
from cuvee.plan.mergekit import as_mergekit


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe beside its texts, which it names relative to itself."""
    texts = experts(16, tmp_path, ["sort", "shift"])
    models = "".join(f"  - {{model: {model}, text: {Path(text).name}}}\n" for model, text in texts.items())
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"merge_method: task_arithmetic\nbase_model: {demo.model_folder(demo.BASE)}\nmodels:\n{models}"
        "parameters: {weight: 1.0, lambda: 0.5}\nalign: {ridge: 3.0e-4, mix: 0.5}\ndtype: bfloat16\n"
    )
    return path


def test_a_recipe_gives_the_bytes_of_merging_and_aligning_one_after_the_other(recipe: Path, tmp_path: Path) -> None:
    merge_aligned(load_recipe(recipe), tmp_path / "at-once")
    plain = recipe.read_text().replace("align: {ridge: 3.0e-4, mix: 0.5}\n", "").replace(", text: sort-16.jsonl", "")
    other = tmp_path / "plain.yaml"
    other.write_text(plain.replace(", text: shift-16.jsonl", ""))
    merge(other, tmp_path / "merged")
    texts = experts(16, tmp_path, ["sort", "shift"])
    align(str(tmp_path / "merged"), tmp_path / "after", texts, alignment(ridge=3e-4))
    assert weights_digest(tmp_path / "at-once") == weights_digest(tmp_path / "after")
    assert (tmp_path / "at-once" / "recipe.yaml").read_text() == recipe.read_text()
    assert not list(tmp_path.glob(".*.partial"))


def test_nothing_merges_it_without_the_repair(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="this merges without it"):
        merge(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_plan_says_the_rule_of_every_tensor(recipe: Path) -> None:
    found = forecast_alignment(make_plan(load_recipe(recipe)))
    rules = set(found.rules.values())
    assert rules == {"aligned", "anchor"}
    assert found.rules["model.layers.3.mlp.down_proj.weight"] == "aligned"
    assert found.rules["model.embed_tokens.weight"] == "anchor"
    assert [text.documents for text in found.texts] == [16, 16]
    assert found.seconds > 0


def test_the_plan_counts_the_memory_of_libraries(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PeakMemory, "bytes", lambda peak: 10**9)
    assert forecast_alignment(make_plan(load_recipe(recipe))).memory_bytes >= 10**9


@pytest.mark.parametrize("threads", [1, 2])
def test_the_memory_that_the_plan_says_is_enough(recipe: Path, tmp_path: Path, threads: int) -> None:
    forecast = forecast_alignment(make_plan(load_recipe(recipe)), threads=threads)
    done = merge_aligned(load_recipe(recipe), tmp_path / "out", threads=threads, memory_bytes=forecast.memory_bytes)
    assert done.took.peak_memory_bytes <= forecast.memory_bytes


def test_mergekit_is_given_no_recipe_that_aligns(recipe: Path) -> None:
    assert as_mergekit(load_recipe(recipe)) is None


def test_alignment_and_texts_are_part_of_what_a_recipe_means(recipe: Path) -> None:
    digest = load_recipe(recipe).digest
    for before, after in (("3.0e-4", "3.0e-3"), ("sort-16", "shift-16")):
        recipe.write_text(recipe.read_text().replace(before, after, 1))
        assert load_recipe(recipe).digest != digest
        digest = load_recipe(recipe).digest


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("ridge", "rigde", "did you mean 'ridge'"),
        ("mix: 0.5", "mix: 1.5", "less than or equal to 1"),
        (", text: sort-16.jsonl}", "}", None),
        ("align: {ridge: 3.0e-4, mix: 0.5}\n", "", "has a 'text', and the recipe no 'align'"),
    ],
)
def test_slips_are_found_before_anything_is_read(recipe: Path, before: str, after: str, message: str | None) -> None:
    recipe.write_text(recipe.read_text().replace(before, after))
    if message is None:
        load_recipe(recipe)  # one text is enough
        return
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe)


def test_an_alignment_without_any_text_is_refused(recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace(", text: sort-16.jsonl", "").replace(", text: shift-16.jsonl", ""))
    with pytest.raises(RecipeError, match="no model has a 'text'"):
        load_recipe(recipe)
