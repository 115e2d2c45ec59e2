"""Examples worked by hand, one method at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee import merge_tensors
from cuvee.errors import MethodError


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_linear_refuses_weights_that_cancel() -> None:
    with pytest.raises(MethodError, match="sum to zero"):
        merge_tensors("linear", [f32(1), f32(2)], weight=[1, -1])


def test_passthrough_copies_and_scales() -> None:
    assert merge_tensors("passthrough", [f32(1, -0.0, 3)]).tobytes() == f32(1, -0.0, 3).tobytes()
    np.testing.assert_array_equal(merge_tensors("passthrough", [f32(1, 2)], scale=0.5), f32(0.5, 1))


def test_slerp_of_right_angles_goes_along_the_arc() -> None:
    merged = merge_tensors("slerp", [f32(0, 1)], base=f32(1, 0), t=0.5)
    np.testing.assert_allclose(merged, [np.sqrt(0.5), np.sqrt(0.5)], rtol=1e-6)


def test_slerp_of_near_parallel_tensors_is_a_straight_line() -> None:
    merged = merge_tensors("slerp", [f32(1, 0.01)], base=f32(1, 0), t=0.25)
    np.testing.assert_allclose(merged, [1, 0.0025], rtol=1e-6)


def test_ties_keeps_the_first_of_equal_magnitudes() -> None:
    merged = merge_tensors("ties", [f32(1, -1, 1, 1)], base=f32(0, 0, 0, 0), weight=1, density=0.5)
    np.testing.assert_array_equal(merged, [1, -1, 0, 0])


def test_ties_of_the_paper_keeps_all_equal_magnitudes() -> None:
    deltas = [f32(1, -1, 1, 0.5)]
    merged = merge_tensors("ties", deltas, base=f32(0, 0, 0, 0), weight=1, density=0.5, semantics="paper")
    np.testing.assert_array_equal(merged, [1, -1, 1, 0])


def test_a_negative_weight_in_ties_subtracts() -> None:
    # +1 weighted 0.3 and +1 weighted -1: the vote is negative, and the mean of what agrees is -1
    merged = merge_tensors("ties", [f32(1), f32(1)], base=f32(0), weight=[0.3, -1])
    np.testing.assert_array_equal(merged, [-1])


def test_an_even_vote_goes_to_plus_in_mergekit_and_to_the_majority_in_the_paper() -> None:
    deltas, base = [f32(1, -3, -3), f32(-1, -3, -3)], f32(0, 0, 0)
    assert merge_tensors("ties", deltas, base=base, weight=1)[0] == 1
    assert merge_tensors("ties", deltas, base=base, weight=1, semantics="paper")[0] == -1


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_keeps_the_share_and_the_sum_of_magnitudes(method: str) -> None:
    delta = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    merged = merge_tensors(method, [delta], base=np.zeros_like(delta), weight=1, density=0.3)
    assert np.mean(merged != 0) == pytest.approx(0.3, abs=0.005)
    assert np.abs(merged).sum() == pytest.approx(np.abs(delta).sum(), rel=1e-4)


def test_dare_of_the_paper_is_unbiased() -> None:
    delta = np.ones(200_000, np.float32)
    options = {"weight": 1, "density": 0.25, "semantics": "paper"}
    merged = merge_tensors("dare_linear", [delta], base=np.zeros_like(delta), **options)
    assert set(np.unique(merged)) == {0, 4}
    assert merged.mean() == pytest.approx(1, abs=0.02)


def test_another_seed_another_name_or_another_tensor_draws_anew() -> None:
    delta, zero = np.ones(1000, np.float32), np.zeros(1000, np.float32)

    def kept(**options: object) -> np.ndarray:
        return merge_tensors("dare_linear", [delta], base=zero, weight=1, density=0.5, **options) != 0

    assert (kept() == kept()).all()
    for other in (kept(seed=1), kept(names=["b"])):
        assert np.mean(kept() == other) == pytest.approx(0.5, abs=0.06)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=3, max_size=6), st.integers(0, 5))
def test_no_point_near_the_geometric_median_is_better(points: list[tuple[float, float]], direction: int) -> None:
    stack = np.array(points, np.float32)
    median = merge_tensors("geometric_median", list(stack))
    here = np.linalg.norm(stack - median, axis=1).sum()
    step = 0.05 * np.array([np.cos(direction), np.sin(direction)])
    assert here <= np.linalg.norm(stack - median - step, axis=1).sum() + 1e-3


def test_the_geometric_median_ignores_an_outlier() -> None:
    near = [f32(0, 0), f32(0.1, 0), f32(0, 0.1), f32(0.1, 0.1)]
    merged = merge_tensors("geometric_median", [*near, f32(1000, 1000)])
    assert np.abs(merged).max() < 0.2


def test_the_geometric_median_of_two_is_their_weighted_mean() -> None:
    np.testing.assert_allclose(merge_tensors("geometric_median", [f32(0), f32(4)], weight=[3, 1]), [1])


def test_expo_goes_on_beyond_the_model() -> None:
    np.testing.assert_allclose(merge_tensors("expo", [f32(3)], base=f32(1), alpha=0.5), [4])


def test_magmax_takes_the_first_of_equal_magnitudes() -> None:
    np.testing.assert_array_equal(merge_tensors("magmax", [f32(1, -2), f32(-1, 3)], base=f32(0, 0)), [1, 3])


def test_consensus_leaves_out_what_matters_to_one_model_only() -> None:
    deltas = [f32(1, 1), f32(1, 0)]
    np.testing.assert_array_equal(merge_tensors("consensus", deltas, base=f32(0, 0), mask_lambda=0.5), [2, 0])


def test_nearswap_moves_by_its_limit_at_most() -> None:
    merged = merge_tensors("nearswap", [f32(1.5, -1, 0.25)], base=f32(1, -0.5, 0.25), t=0.25)
    np.testing.assert_array_equal(merged, [1.25, -0.75, 0.25])


def test_emr_takes_minus_where_the_sum_is_zero() -> None:
    np.testing.assert_array_equal(merge_tensors("emr", [f32(1, 2), f32(-1, 1)], base=f32(0, 0)), [-1, 2])


def test_ram_averages_what_is_shared_and_keeps_what_is_not() -> None:
    deltas = [f32(1, 2, 1e-6), f32(3, 0, 0)]
    np.testing.assert_array_equal(merge_tensors("ram", deltas, base=f32(0, 0, 0)), [2, 2, 0])


def test_ram_plus_strengthens_what_one_model_alone_changed() -> None:
    # of the first model's entries one is shared and two are its own: 1 + r · min(1/2, alpha)
    deltas = [f32(2, 1, 1), f32(4, 0, 0)]
    merged = merge_tensors("ramplus_tl", deltas, base=f32(0, 0, 0), r=0.1, alpha=1.0)
    np.testing.assert_allclose(merged, [3, 1.05, 1.05])


def test_nuslerp_of_columns_turns_each_on_its_own() -> None:
    # columns (1, 0) and (0, 1) are at right angles, the others are equal
    first, second = f32(1, 2, 0, 0).reshape(2, 2), f32(0, 2, 1, 0).reshape(2, 2)
    merged = merge_tensors("nuslerp", [first, second], weight=1, nuslerp_flatten=False, nuslerp_row_wise=True)
    np.testing.assert_allclose(merged, [[np.sqrt(0.5), 2], [np.sqrt(0.5), 0]], rtol=1e-6)


def test_multislerp_gives_the_mean_direction_at_the_mean_length() -> None:
    merged = merge_tensors("multislerp", [f32(2, 0), f32(0, 4)], weight=1)
    np.testing.assert_allclose(merged, 3 * np.sqrt([0.5, 0.5]), rtol=1e-6)


def test_multislerp_of_directions_that_cancel_is_the_weighted_sum() -> None:
    np.testing.assert_allclose(merge_tensors("multislerp", [f32(1), f32(-1), f32(0)], weight=1), [0], atol=1e-7)


def test_karcher_lies_halfway_between_two_and_follows_the_weights() -> None:
    ends = [f32(1, 0), f32(0, 1)]
    np.testing.assert_allclose(merge_tensors("karcher", ends), np.sqrt([0.5, 0.5]), rtol=1e-6)
    third = np.pi / 6
    np.testing.assert_allclose(merge_tensors("karcher", ends, weight=[2, 1]), [np.cos(third), np.sin(third)], rtol=1e-5)


def test_model_stock_keeps_the_base_where_mergekit_moves_away_from_all_models() -> None:
    # cosine -0.5: t = 2c / (1 + c) = -2
    deltas = [f32(1, 0), f32(-0.5, np.sqrt(0.75))]
    base = f32(0, 0)
    np.testing.assert_array_equal(merge_tensors("model_stock", deltas, base=base), [0, 0])
    mean = np.mean(deltas, axis=0)
    np.testing.assert_allclose(merge_tensors("model_stock", deltas, base=base, clamp=False), -2 * mean, rtol=1e-5)


def test_model_stock_of_tiny_changes_is_that_of_large_ones() -> None:
    # mergekit takes lengths whose product is under 1e-6 for larger ones, and so the angle for wider
    deltas = [f32(1, 0), f32(1, 1)]
    large = merge_tensors("model_stock", deltas, base=f32(0, 0))
    tiny = merge_tensors("model_stock", [f32(2**-20) * delta for delta in deltas], base=f32(0, 0))
    np.testing.assert_array_equal(tiny, f32(2**-20) * large)
    assert large.any()


def test_model_stock_takes_each_row_by_itself() -> None:
    # the first row's changes are equal, the second's at right angles
    deltas = [f32(1, 1, 1, 0).reshape(2, 2), f32(1, 1, 0, 1).reshape(2, 2)]
    merged = merge_tensors("model_stock", deltas, base=np.zeros((2, 2), np.float32), filter_wise=True)
    np.testing.assert_allclose(merged, [[1, 1], [0, 0]], atol=1e-7)
