"""What Cuvée does in another way than mergekit on purpose, each with what both do; come-from-mergekit.md lists it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cuvee
from cuvee.errors import CuveeError, RecipeError
from parity.differences import (
    BASE,
    BASE_NOT_AMONG_SOURCES,
    DIFFERENCES,
    MISSPELT,
    MORE_AT_THE_END,
    NO_LAYERS,
    OWN_LAMBDA,
    UP,
    in_place,
    tensor,
)
from parity.run import Answers, merge_here


def here(name: str, **changed: Any) -> np.ndarray:
    """Merge with Cuvée what mergekit is asked under that name."""
    asked = DIFFERENCES[name]
    base = None if asked.base is None else asked.tensors[asked.base]
    models = asked.tensors[0 if base is None else 1 :]
    return np.asarray(cuvee.merge_tensors(asked.method, models, base=base, **{**asked.parameters, **changed}))


def test_breadcrumbs_keeps_an_entry_of_a_small_tensor(answers: Answers) -> None:
    np.testing.assert_array_equal(answers.tensor("small_tensor")[0], BASE)
    np.testing.assert_array_equal(here("small_tensor"), tensor(0, 0, 0, 4))


def test_sce_weighs_small_changes_by_their_size(answers: Answers) -> None:
    np.testing.assert_allclose(answers.tensor("small_changes")[0], tensor(2e-4, 0, 0, 0))
    np.testing.assert_allclose(here("small_changes"), tensor(2.8e-4, 0, 0, 0), rtol=1e-6)  # (1 * 1 + 9 * 3) / 10


def test_sce_does_not_shrink_what_only_a_model_of_small_share_changed(answers: Answers) -> None:
    np.testing.assert_allclose(answers.tensor("unequal_changes")[0], tensor(1, 1e-6, 0, 0), rtol=1e-5)
    np.testing.assert_allclose(here("unequal_changes"), tensor(1, 1e-4, 0, 0), rtol=1e-5)


def test_tiny_changes_are_rescaled_too(answers: Answers) -> None:
    np.testing.assert_allclose(answers.tensor("tiny_changes")[0], tensor(0, 0, 3e-9, 4e-9), rtol=1e-6)
    np.testing.assert_allclose(here("tiny_changes"), tensor(0, 0, 3e-9, 4e-9) * (10 / 7), rtol=1e-6)


def test_model_stock_does_not_go_away_from_models_that_disagree(answers: Answers) -> None:
    away = answers.tensor("negative_cosine")[0]
    np.testing.assert_allclose(away, [0, 0, -2, -2], rtol=1e-6)
    np.testing.assert_array_equal(here("negative_cosine"), BASE)
    np.testing.assert_allclose(here("negative_cosine", clamp=False), away, rtol=1e-6)


def test_model_stock_takes_equal_task_vectors_for_equal_however_short(answers: Answers) -> None:
    np.testing.assert_allclose(answers.tensor("short_task_vectors")[0, 0], 1.98e-6, rtol=1e-3)
    np.testing.assert_allclose(here("short_task_vectors"), tensor(1e-4, 0, 0, 0), rtol=1e-6)


def test_a_negative_weight_subtracts_in_ties(answers: Answers) -> None:
    np.testing.assert_allclose(answers.tensor("negative_weight")[0], UP)
    np.testing.assert_allclose(here("negative_weight"), -UP)


def test_arcee_fusion_is_the_same_each_time(answers: Answers) -> None:
    first, second = answers.tensor("many_entries")
    assert (first != second).any()
    _base, model = DIFFERENCES["many_entries"].tensors
    taken, sampled = (here("many_entries") == model).mean(), (first == model).mean()
    np.testing.assert_array_equal(here("many_entries", seed=1), here("many_entries", seed=2))
    assert abs(taken - sampled) < 0.005


@pytest.mark.parametrize("name", ["wider_output", "wider_sum"])
def test_the_output_has_the_type_of_the_models(name: str, answers: Answers) -> None:
    assert answers.tensor(name).dtype == np.float32
    assert here(name).dtype == DIFFERENCES[name].tensors[0].dtype


def test_della_keeps_rows_of_one_entry_by_their_density(answers: Answers) -> None:
    assert "row_of_one" in answers.errors
    kept = np.stack([here("row_of_one", rescale=False, seed=seed)[:, 0] for seed in range(400)])
    np.testing.assert_allclose((kept != 0).mean(axis=0), 0.5, atol=0.1)


def test_della_makes_a_window_smaller_that_does_not_fit(answers: Answers) -> None:
    assert "Epsilon must be chosen" in answers.errors["wide_window"]
    kept = np.stack([here("wide_window", rescale=False, seed=seed) for seed in range(400)])
    np.testing.assert_allclose((kept != 0).mean(axis=0), [0.8, 13 / 15, 14 / 15, 1.0], atol=0.07)


def test_della_ranks_the_rows_of_a_stack_along_the_last_axis(answers: Answers) -> None:
    change = DIFFERENCES["rows_of_a_stack"].tensors[1]
    there = answers.tensor("rows_of_a_stack") != 0
    ours = np.stack([here("rows_of_a_stack", seed=seed) != 0 for seed in range(400)])
    for kept, axis in ((ours, -1), (there, 1)):
        larger = np.abs(change) == np.abs(change).max(axis=axis, keepdims=True)
        np.testing.assert_allclose(kept.mean(axis=0), np.where(larger, 0.9, 0.1), atol=0.08)


def test_multislerp_sums_directions_that_cancel(answers: Answers) -> None:
    assert "weighted sum of the input tensors is zero" in answers.errors["directions_that_cancel"]
    np.testing.assert_allclose(here("directions_that_cancel"), [0, 0], atol=1e-7)


@pytest.mark.parametrize("name", ["weights_of_zero_sum", "directions_of_zero_sum"])
def test_weights_that_sum_to_zero_are_an_error(name: str, answers: Answers) -> None:
    assert not np.isfinite(answers.tensor(name)).all()
    with pytest.raises(CuveeError, match="sum to zero"):
        here(name)


def test_nuslerp_takes_the_columns_of_each_matrix_of_a_stack(answers: Answers) -> None:
    asked = DIFFERENCES["columns_of_a_cube"]
    each = [cuvee.merge_tensors("nuslerp", [a, b], **asked.parameters) for a, b in zip(*asked.tensors, strict=True)]
    np.testing.assert_allclose(here("columns_of_a_cube"), np.stack(each), rtol=1e-6)
    assert np.abs(answers.tensor("columns_of_a_cube")[0] - np.stack(each)).max() > 0.01


def test_nearswap_steps_by_t_however_small(answers: Answers) -> None:
    np.testing.assert_allclose(answers.tensor("tiny_step")[0], tensor(5e-8, 1e-7, 0, 0), rtol=1e-5)
    np.testing.assert_allclose(here("tiny_step"), tensor(1e-7, 1e-7, 0, 0), rtol=1e-5)


def test_a_karcher_mean_of_models_without_direction_is_their_average(answers: Answers) -> None:
    np.testing.assert_array_equal(answers.tensor("nothing_but_zeros")[0], BASE)
    np.testing.assert_allclose(here("nothing_but_zeros"), tensor(5e-7, 0, 0, 0), rtol=1e-6)


def test_a_value_out_of_range_is_an_error(answers: Answers) -> None:
    np.testing.assert_array_equal(answers.tensor("density_beyond_one")[0], UP)
    with pytest.raises(RecipeError, match=r"expected a number in \[0, 1\]"):
        here("density_beyond_one")


def test_another_order_of_the_models_changes_no_draw(answers: Answers) -> None:
    one, other = (answers.tensor(name)[0] for name in ("one_order", "other_order"))
    assert (one != other).any()
    np.testing.assert_array_equal(here("one_order", names=["a", "b"]), here("other_order", names=["b", "a"]))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("misspelt_parameter", MISSPELT, "takes no parameter 'normalise'"),
        ("a_models_own_lambda", OWN_LAMBDA, "a model cannot set its own"),
        ("no_layers", NO_LAYERS, "0 <= first < last"),
    ],
)
def test_what_mergekit_passes_over_is_an_error(
    name: str, text: str, message: str, answers: Answers, shared: Path
) -> None:
    assert name not in answers.errors
    with pytest.raises(RecipeError, match=message):
        cuvee.recipe_from_text(in_place(text, shared / "models"))


def test_a_slice_need_not_name_the_base_model(answers: Answers, shared: Path) -> None:
    assert "base_not_among_sources" in answers.errors
    plan = cuvee.make_plan(cuvee.recipe_from_text(in_place(BASE_NOT_AMONG_SOURCES, shared / "models")))
    assert [str(plan.models[step.base.model])[-2:] for step in plan.steps if step.base] == ["e0"] * len(plan.steps)


def test_the_head_is_merged_of_all_models_of_the_last_slice(answers: Answers, shared: Path, tmp_path: Path) -> None:
    plan = cuvee.make_plan(cuvee.recipe_from_text(in_place(MORE_AT_THE_END, shared / "models")))
    first, second = (source.read("lm_head.weight") for source in plan.sources)
    np.testing.assert_allclose(answers.model("more_models_at_the_end")["lm_head.weight"], first)
    ours = merge_here(plan, tmp_path / "merged")["lm_head.weight"]
    np.testing.assert_allclose(ours, (first + second) / 2, rtol=1e-6, atol=1e-8)
