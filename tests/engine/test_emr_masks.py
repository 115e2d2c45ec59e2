"""EMR's masks and scales are the paper's, and the models that they rebuild are those of its formula."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cuvee
from cuvee.checkpoint import open_checkpoint, weights_digest
from cuvee.engine import Part
from cuvee.errors import CheckpointError
from cuvee.testing import TINY_LLAMA, random_weights, write_model
from methods.test_golden import BASE, EXPERTS

RECIPE = (
    "merge_method: emr\nbase_model: base\nmodels: [{{model: a}}, {{model: b}}, {{model: c}}]\ndtype: {dtype}\n{more}"
)


def merge(folder: Path, dtype: str = "float32", more: str = "", **options: object) -> cuvee.MergeResult:
    recipe = cuvee.recipe_from_text(RECIPE.format(dtype=dtype, more=more), folder=folder)
    return cuvee.merge(recipe, folder / "out", **options)


def write_family(folder: Path, models: dict[str, dict[str, np.ndarray]], dtype: str = "F32") -> None:
    for name, weights in models.items():
        write_model(folder / name, weights, dtype=dtype)


def masks(out: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((out / "cuvee.json").read_text())["masks"]
    return found


def read_wide(folder: Path) -> dict[str, np.ndarray]:
    with open_checkpoint(folder) as checkpoint:
        return {name: checkpoint.read(name).astype(np.float64) for name in checkpoint.tensors}


def by_formula(base: dict, model: dict, unified: dict) -> dict[str, np.ndarray]:
    """Rebuild a model as the paper does, from the unified model as it was written."""
    change = {name: unified[name] - base[name] for name in base}
    delta = {name: model[name] - base[name] for name in base}
    shared = {name: np.where(delta[name] * change[name] > 0, change[name], 0) for name in base}
    total = sum(np.abs(d).sum() for d in delta.values())
    scale = total / sum(np.abs(s).sum() for s in shared.values())
    return {name: base[name] + scale * shared[name] for name in base}


def test_scales_are_those_of_the_paper(tmp_path: Path) -> None:
    """Golden values: tests/golden/README.md says where they come from."""
    write_family(tmp_path, {n: {"w": a} for n, a in zip(("base", "a", "b", "c"), (BASE, *EXPERTS), strict=True)})
    found = masks(merge(tmp_path).folder)
    assert [mask["model"] for mask in found] == ["a", "b", "c"]
    assert [mask["scale"] for mask in found] == pytest.approx([0.6544, 0.9856, 0.9178], abs=5e-5)


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("bfloat16", 2**-8)])
@pytest.mark.parametrize("more", ["", "parameters: {lambda: 0.5}"])
def test_rebuilt_models_are_those_of_the_formula(tmp_path: Path, dtype: str, error: float, more: str) -> None:
    config = {**TINY_LLAMA, "vocab_size": 3100}
    base = random_weights(0, config=config)
    family = {"base": base} | {n: random_weights(i, base=base, config=config) for i, n in enumerate("abc", 1)}
    write_family(tmp_path, family)
    out = merge(tmp_path, dtype, more, shard_bytes=100_000, threads=2).folder
    unified = read_wide(out)
    for mask in masks(out):
        made = tmp_path / f"again-{mask['model']}"
        digest = cuvee.rebuild(out, out / str(mask["file"]), made, base=tmp_path / "base")
        assert digest == weights_digest(made)
        wanted = by_formula(read_wide(tmp_path / "base"), read_wide(tmp_path / str(mask["model"])), unified)
        for name, array in read_wide(made).items():
            np.testing.assert_allclose(array, wanted[name], rtol=error, atol=1e-7)


@given(seed=st.integers(0, 2**32 - 1), n=st.sampled_from([0, 1, 7, 8, 9, 2**17 - 1, 2**17 + 3]))
def test_a_lone_model_is_rebuilt_whole(seed: int, n: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its mask is where it changed, and its scale is 1: any size of tensor comes back."""
    folder = tmp_path_factory.mktemp("lone")
    generator = np.random.default_rng(seed)
    base = {"w": generator.standard_normal(n).astype(np.float32), "v": np.ones(3, np.float32)}
    model = {"w": np.where(generator.random(n) < 0.5, base["w"], 2 * base["w"]), "v": base["v"] * 2}
    write_family(folder, {"base": base, "a": model})
    recipe = cuvee.recipe_from_text("merge_method: emr\nbase_model: base\nmodels: [{model: a}]\n", folder=folder)
    out = cuvee.merge(recipe, folder / "out").folder
    cuvee.rebuild(out, "1-a.safetensors", folder / "again", base=folder / "base")
    for name, array in read_wide(folder / "again").items():
        np.testing.assert_array_equal(array, model[name])


def test_a_method_of_a_plug_in_leaves_masks_of_its_own(tmp_path: Path) -> None:
    base = random_weights(0)
    write_family(tmp_path, {"base": base} | {name: random_weights(i, base=base) for i, name in enumerate("abc", 1)})
    plan = cuvee.make_plan(cuvee.recipe_from_text(RECIPE.format(dtype="float32", more=""), folder=tmp_path))
    rising = replace(plan.method, key="rising", masks=lambda delta, change: (delta > 0) & (change > 0))
    out = cuvee.run_plan(replace(plan, method=rising), tmp_path / "out").folder
    cuvee.rebuild(out, "1-a.safetensors", tmp_path / "again", base=tmp_path / "base")
    assert [mask["file"] for mask in masks(out)] == [
        f"rising/{i}-{name}.safetensors" for i, name in enumerate("abc", 1)
    ]
    again = read_wide(tmp_path / "again")
    assert all((again[name] >= base[name] - 1e-7).all() for name in base)


def test_a_split_merge_says_that_it_has_no_masks(tmp_path: Path) -> None:
    base = random_weights(0)
    write_family(tmp_path, {"base": base} | {name: random_weights(i, base=base) for i, name in enumerate("abc", 1)})
    recipe = cuvee.recipe_from_text(RECIPE.format(dtype="float32", more=""), folder=tmp_path)
    result = cuvee.merge_part(recipe, tmp_path / "out", Part(1, 1))
    assert "no masks of EMR: it is split into parts" in result.warnings[-1]
    assert not (cuvee.join(tmp_path / "out").folder / "emr").exists()


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    base = random_weights(0)
    write_family(tmp_path, {"base": base} | {name: random_weights(i, base=base) for i, name in enumerate("abc", 1)})
    write_model(tmp_path / "other", random_weights(0, config={**TINY_LLAMA, "hidden_size": 16}))
    out = merge(tmp_path).folder
    with pytest.raises(CheckpointError, match="not of one merge"):
        cuvee.rebuild(out, "1-a.safetensors", tmp_path / "again", base=tmp_path / "other")
    with pytest.raises(CheckpointError, match="no mask of EMR"):
        cuvee.rebuild(out, tmp_path / "a" / "model.safetensors", tmp_path / "again", base=tmp_path / "base")
    assert not (tmp_path / "again").exists()
