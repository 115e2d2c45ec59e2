"""A merge takes the memory it was given, however large a tensor is."""

from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.kernels import BLOCK
from cuvee.testing import write_model

SHAPE = (7000, 4000)
BUDGET = 50_000_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models of one tensor that takes more than the budget, even in bfloat16."""
    root = tmp_path_factory.mktemp("large")
    generator = np.random.default_rng(0)
    for name in ("base", "a", "b"):
        write_model(root / name, {"w": generator.standard_normal(SHAPE, np.float32)}, dtype="BF16")
    return root


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("ties", "weight: 0.5, density: 0.3"),
        ("dare_ties", "weight: 0.5, density: 0.3"),
        ("linear", "weight: 0.5"),
        ("model_stock", "filter_wise: true"),
        ("della", "weight: 0.5, density: 0.3"),
        ("sce", "select_topk: 0.1"),
    ],
)
def test_a_tensor_larger_than_the_budget_is_merged_within_it(
    method: str, settings: str, threads: int, large: Path, tmp_path: Path
) -> None:
    base = "" if method == "linear" else f"base_model: {large}/base\n"
    models = f"models: [{{model: {large}/a}}, {{model: {large}/b}}]\n"
    text = f"merge_method: {method}\n{base}{models}parameters: {{{settings}}}\n"
    recipe = cuvee.recipe_from_text(text)
    cuvee.merge(recipe, tmp_path / "warm", memory_bytes=BUDGET, threads=threads)  # compiles what is not compiled yet
    figures = cuvee.merge(recipe, tmp_path / "out", memory_bytes=BUDGET, threads=threads).figures
    assert figures.peak_memory_bytes < BUDGET


def test_choices_kept_between_passes_give_the_bytes_of_choices_made_again(large: Path, tmp_path: Path) -> None:
    models = f"models: [{{model: {large}/a}}, {{model: {large}/b}}]\n"
    text = f"merge_method: sce\nbase_model: {large}/base\n{models}parameters: {{select_topk: 0.1}}\n"
    recipe = cuvee.recipe_from_text(text)
    with_room = cuvee.merge(recipe, tmp_path / "room", threads=1)
    without = cuvee.merge(recipe, tmp_path / "chunks", threads=1, chunk=BLOCK)
    assert with_room.digest == without.digest
