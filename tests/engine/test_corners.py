"""Numbers that are wider than the type computed in, or that are none."""

from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.checkpoint import open_checkpoint
from cuvee.testing import write_model


def merged(
    root: Path, base: np.ndarray, expert: np.ndarray, text: str, dtype: str = "F32", **options: bool
) -> np.ndarray:
    for name, numbers in (("base", base), ("expert", expert)):
        write_model(root / name, {"w": numbers}, dtype=dtype)
    recipe = f"base_model: {root}/base\nmodels: [{{model: {root}/expert}}]\n{text}"
    cuvee.merge(cuvee.recipe_from_text(recipe), root / "out", **options)
    return open_checkpoint(root / "out").read("w")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_whole_model_is_surveyed_in_the_bits_that_are_computed_in(tmp_path: Path, dtype: str) -> None:
    change = np.random.default_rng(0).standard_normal((40, 25))
    text = f"merge_method: localize_stitch\nparameters: {{density: 0.1}}\ncompute_dtype: as_loaded\ndtype: {dtype}\n"
    kind = "F64" if dtype == "float32" else "BF16"
    out = merged(tmp_path, np.zeros_like(change), change, text, dtype=kind)
    kept = np.abs(change)[out != 0]
    # in bfloat16 more than one may be equal to the last that is kept
    assert 100 <= kept.size < 120
    assert kept.min() >= np.abs(change)[out == 0].max() * 0.99


def test_breadcrumbs_without_outliers_to_leave_out_show_what_is_not_a_number(tmp_path: Path) -> None:
    expert = np.ones((4, 5), np.float32)
    expert[1, 2] = np.nan
    text = "merge_method: breadcrumbs\nparameters: {weight: 1, density: 0.9, gamma: 0}\n"
    out = merged(tmp_path, np.zeros_like(expert), expert, text, allow_nonfinite=True)
    assert np.isnan(out[1, 2])


def test_ranks_of_float64_numbers_are_not_rounded() -> None:
    deltas = np.array([1.0, 1 + 1e-12, 3.0, 2.0])
    out = cuvee.merge_tensors("cabs", [deltas], base=np.zeros(4), n=1, m=2, weight=1.0)
    np.testing.assert_array_equal(out, [0, 1 + 1e-12, 3, 0])
