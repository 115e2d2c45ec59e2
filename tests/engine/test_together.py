"""Several recipes in one pass: the bytes that each has alone, and what stops and goes on as one merge does."""

import json
from pathlib import Path

import pytest

import cuvee
from cuvee.checkpoint import Checkpoint
from cuvee.engine.together import merge_together
from cuvee.errors import CuveeError, OutOfBudget, RecipeError
from cuvee.kernels import BLOCK
from cuvee.progress import Silent
from cuvee.recipe.recipe import Recipe
from cuvee.testing import random_weights, write_model

from .conftest import CONFIG, EXPERTS

SETTINGS = {
    "sum": "merge_method: task_arithmetic\nparameters: {weight: 0.4}",
    "stronger": "merge_method: task_arithmetic\nparameters: {weight: 0.4, lambda: 1.3}",
    "ties": "merge_method: ties\nparameters: {weight: 1, density: 0.3}",
    "denser": "merge_method: ties\nparameters: {weight: 1, density: 0.7}",
    "paper": "merge_method: ties\nsemantics: paper\nparameters: {weight: 1, density: 0.4}",
    "mean": "merge_method: linear\nparameters: {weight: 1}",
    "isotropic": "merge_method: iso_c",
    "random": "merge_method: dare_ties\nseed: 3\nparameters: {weight: 1, density: 0.4}",
    "ranked": "merge_method: della\nseed: 3\nparameters: {weight: 1, density: 0.4}",
    "selected": "merge_method: sce\nparameters: {select_topk: 0.4}",
    "measured": "merge_method: task_arithmetic\nparameters: {weight: 1}\npost: [norm_match]",
}
LOADED = {
    "loaded": "merge_method: ties\ncompute_dtype: as_loaded\nparameters: {weight: 1, density: 0.3}",
    "stock": "merge_method: model_stock\ncompute_dtype: as_loaded",
}


def recipes(family: Path, settings: dict[str, str] = SETTINGS) -> dict[str, Recipe]:
    listed = ", ".join(f"{{model: {family}/{name}}}" for name in EXPERTS)
    models = f"models: [{listed}]\nbase_model: {family}/base\n"
    return {name: cuvee.recipe_from_text(models + text) for name, text in settings.items()}


@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"chunk": 1 << 16}], ids=str)
def test_each_output_is_the_one_it_would_be_alone(family: Path, tmp_path: Path, options: dict[str, int]) -> None:
    asked = recipes(family, SETTINGS | LOADED)
    together = merge_together(asked, tmp_path / "all", **options)
    assert list(together) == list(asked)
    for name, recipe in asked.items():
        alone = cuvee.merge(recipe, tmp_path / name)
        assert together[name].digest == alone.digest
        made, single = tmp_path / "all" / name, tmp_path / name
        assert {file.name for file in made.iterdir()} == {file.name for file in single.iterdir()}
        for file in single.glob("*.safetensors"):
            assert (made / file.name).read_bytes() == file.read_bytes()
        assert (made / "README.md").read_text() == (single / "README.md").read_text()
    assert not list((tmp_path / "all").glob(".*"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which every reading of weights adds its bytes."""
    nbytes: list[int] = []
    original = Checkpoint.read_into

    def counted(self: Checkpoint, name: str, position: int, rows: list) -> None:
        nbytes.append(sum(row.nbytes for row in rows))
        original(self, name, position, rows)

    monkeypatch.setattr(Checkpoint, "read_into", counted)
    return nbytes


FEW = {name: SETTINGS[name] for name in ("sum", "stronger", "ties", "denser")}


def test_models_are_read_once_for_all(family: Path, tmp_path: Path, read: list[int]) -> None:
    merge_together(recipes(family, FEW), tmp_path / "all")
    together = sum(read)
    read.clear()
    cuvee.merge(recipes(family, FEW)["sum"], tmp_path / "one")
    assert together == sum(read)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a family whose embeddings take several chunks."""
    root, config = tmp_path_factory.mktemp("large"), {**CONFIG, "vocab_size": 10 * BLOCK // 32}
    base = random_weights(0, config=config)
    write_model(root / "base", base, config=config, dtype="BF16")
    for i, name in enumerate(EXPERTS):
        write_model(root / name, random_weights(i + 1, base=base, config=config), config=config, dtype="BF16")
    return root


def test_tensors_that_do_not_fit_are_read_twice_for_all(large: Path, tmp_path: Path, read: list[int]) -> None:
    merge_together(recipes(large, FEW), tmp_path / "all", chunk=BLOCK)
    together = sum(read)
    read.clear()
    cuvee.merge(recipes(large, FEW)["sum"], tmp_path / "one", chunk=BLOCK)
    once = sum(read)
    assert once < together <= 2 * once


def test_outputs_of_large_tensors_are_those_they_would_be_alone(large: Path, tmp_path: Path) -> None:
    asked = recipes(large, {name: text for name, text in (SETTINGS | LOADED).items() if name != "isotropic"})
    together = merge_together(asked, tmp_path / "all", chunk=BLOCK, threads=2)
    for name, recipe in asked.items():
        assert together[name].digest == cuvee.merge(recipe, tmp_path / name).digest


def test_recipes_over_other_models_go_along(family: Path, tmp_path: Path) -> None:
    asked = recipes(family, {"all": SETTINGS["ties"]})
    models = f"models: [{{model: {family}/e2}}, {{model: {family}/e0}}]\n"
    asked["two"] = cuvee.recipe_from_text(models + SETTINGS["mean"])
    together = merge_together(asked, tmp_path / "together", threads=2)
    for name, recipe in asked.items():
        assert together[name].digest == cuvee.merge(recipe, tmp_path / name).digest


class _Stop(Silent):
    """Stops a merge after so many tensors of all outputs."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise KeyboardInterrupt


def test_a_pass_that_was_stopped_goes_on(family: Path, tmp_path: Path) -> None:
    asked = recipes(family)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        merge_together(asked, tmp_path / "all", progress=_Stop(30))
    assert not [file for file in (tmp_path / "all").iterdir() if not file.name.startswith(".")]
    done = {}
    for name in asked:
        journal = tmp_path / "all" / f".{name}.partial" / "journal.jsonl"
        done[name] = len(journal.read_text().splitlines()) - 1
    assert min(done.values()) > 0
    together = merge_together(asked, tmp_path / "all")
    for name, recipe in asked.items():
        assert together[name].digest == cuvee.merge(recipe, tmp_path / name).digest


def test_outputs_that_an_earlier_run_finished_stay(family: Path, tmp_path: Path) -> None:
    asked = recipes(family)
    alone = cuvee.merge(asked["ties"], tmp_path / "all" / "ties")
    before = (alone.folder / "cuvee.json").stat().st_mtime_ns
    together = merge_together(asked, tmp_path / "all")
    assert together["ties"].digest == alone.digest
    assert (alone.folder / "cuvee.json").stat().st_mtime_ns == before


def test_an_output_of_another_recipe_is_refused_before_anything_is_read(family: Path, tmp_path: Path) -> None:
    asked = recipes(family)
    cuvee.merge(asked["sum"], tmp_path / "all" / "ties")
    with pytest.raises(RecipeError, match="the output exists already"):
        merge_together(asked, tmp_path / "all")
    assert [file.name for file in (tmp_path / "all").iterdir()] == ["ties"]
    together = merge_together(asked, tmp_path / "all", overwrite=True)
    assert together["ties"].digest != together["sum"].digest


def test_a_failure_of_one_leaves_nothing_that_looks_finished(family: Path, tmp_path: Path) -> None:
    asked = recipes(family, {"sum": SETTINGS["sum"]})
    asked |= recipes(family, {"large": "merge_method: task_arithmetic\nparameters: {weight: 1e39}"})
    with pytest.raises(CuveeError, match="does not fit BF16"):
        merge_together(asked, tmp_path / "all")
    assert not (tmp_path / "all").exists() or not list((tmp_path / "all").iterdir())


def test_one_budget_is_for_all(family: Path, tmp_path: Path) -> None:
    with pytest.raises(OutOfBudget, match="too little"):
        merge_together(recipes(family), tmp_path / "all", memory_bytes=10_000)
    few = {name: SETTINGS[name] for name in ("sum", "ties")}
    asked = recipes(family, few)
    results = merge_together(asked, tmp_path / "all", memory_bytes=70_000_000)
    assert results["ties"].digest == cuvee.merge(asked["ties"], tmp_path / "one").digest


def test_names_are_names_of_folders(family: Path, tmp_path: Path) -> None:
    recipe = recipes(family)["sum"]
    with pytest.raises(RecipeError, match="no name of a folder"):
        merge_together({"../out": recipe}, tmp_path / "all")


def test_the_record_says_what_each_was_made_of(family: Path, tmp_path: Path) -> None:
    few = {name: SETTINGS[name] for name in ("sum", "ties")}
    merge_together(recipes(family, few), tmp_path / "all")
    records = {name: json.loads((tmp_path / "all" / name / "cuvee.json").read_text()) for name in few}
    assert len({record["recipe_digest"] for record in records.values()}) == 2
    assert records["sum"]["inputs"] == records["ties"]["inputs"]
