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


def test_breadcrumbs_keeps_the_middle_of_a_tensor() -> None:
    merged = merge_tensors(
        "breadcrumbs", [f32(5, -4, 3, 2, 1)], base=np.zeros(5, "f4"), weight=1, density=0.4, gamma=0.2
    )
    np.testing.assert_array_equal(merged, [0, -4, 3, 0, 0])


def test_breadcrumbs_of_the_paper_takes_each_row_by_itself() -> None:
    # mergekit takes the shares of the whole tensor: there all of the second row is among the smallest
    delta = f32(8, 7, 6, 5, 4, 3, 2, 1).reshape(2, 4)
    options = {"base": np.zeros_like(delta), "weight": 1, "density": 0.5, "gamma": 0.25}
    paper = merge_tensors("breadcrumbs", [delta], semantics="paper", **options)
    np.testing.assert_array_equal(paper, [[0, 7, 6, 0], [0, 3, 2, 0]])
    np.testing.assert_array_equal(merge_tensors("breadcrumbs", [delta], **options), [[0, 0, 6, 5], [4, 3, 0, 0]])


@pytest.mark.parametrize("gamma", [0.0, 0.01])
def test_breadcrumbs_leaves_something_of_small_tensors(gamma: float) -> None:
    # mergekit before 0.1.5 zeroed every tensor in which `gamma` is less than one entry
    merged = merge_tensors("breadcrumbs", [f32(3, 2, 1)], base=f32(0, 0, 0), weight=1, density=0.1, gamma=gamma)
    np.testing.assert_array_equal(merged, [3, 0, 0])


def test_sce_weighs_tiny_changes_as_large_ones() -> None:
    # mergekit weighs models alike once their mean squares sum to less than 1e-6
    deltas = [f32(3, 1), f32(1, 1)]
    large = merge_tensors("sce", deltas, base=f32(0, 0))
    np.testing.assert_allclose(large, [(10 * 3 + 2 * 1) / 12, 1])
    tiny = merge_tensors("sce", [f32(2**-20) * delta for delta in deltas], base=f32(0, 0))
    np.testing.assert_array_equal(tiny, f32(2**-20) * large)


def test_sce_selects_as_many_entries_as_the_share_says_in_decimals() -> None:
    deltas = [np.arange(1, 101, dtype=np.float32), np.zeros(100, np.float32)]
    merged = merge_tensors("sce", deltas, base=np.zeros(100, np.float32), select_topk=0.57)
    assert np.count_nonzero(merged) == 57  # 0.57 * 100 is less in binary


def test_sce_of_the_paper_selects_for_the_weights_only() -> None:
    deltas, base = [f32(4, 1, 1), f32(2, 2, 1)], f32(0, 0, 0)
    # the first entry varies most and gives the weights 16 and 4
    share = 1 / 3 + 1e-6
    mergekit = merge_tensors("sce", deltas, base=base, select_topk=2 * share)
    paper = merge_tensors("sce", deltas, base=base, select_topk=2 * share, semantics="paper")
    np.testing.assert_allclose(mergekit, [3.6, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(paper, [3.6, 1.2, 1], rtol=1e-6)


def test_localize_stitch_averages_the_largest_changes_where_they_overlap() -> None:
    deltas = [f32(4, 3, 1, 0), f32(2, 0, 1, 5)]
    merged = merge_tensors("localize_stitch", deltas, base=np.zeros(4, "f4"), density=0.5)
    np.testing.assert_array_equal(merged, [3, 3, 0, 5])


@pytest.mark.parametrize("method", ["della", "della_linear"])
def test_della_keeps_large_entries_more_often_and_its_density_on_the_whole(method: str) -> None:
    delta = np.random.default_rng(0).permuted(np.tile(np.arange(1, 101, dtype=np.float32), (3000, 1)), axis=1)
    options = {"base": np.zeros_like(delta), "weight": 1, "density": 0.4, "epsilon": 0.3}
    merged = merge_tensors(method, [delta], **options)
    assert np.abs(merged).sum() == pytest.approx(delta.sum(), rel=1e-4)
    for magnitude, chance in ((1, 0.1), (100, 0.7), (50, 0.4)):
        assert np.mean(merged[delta == magnitude] != 0) == pytest.approx(chance, abs=0.03)
    paper = merge_tensors(method, [delta], semantics="paper", **options)
    if method == "della_linear":
        assert paper[delta == 100].mean() == pytest.approx(100, rel=0.04)
        np.testing.assert_allclose(np.unique(paper[delta == 1]), [0, 10], rtol=1e-6)


def test_della_takes_rows_of_one_entry_and_windows_that_do_not_fit() -> None:
    # mergekit divides by zero for the first and refuses the second
    delta = np.ones((20_000, 1), np.float32)
    merged = merge_tensors("della_linear", [delta], base=np.zeros_like(delta), weight=1, density=0.9, rescale=False)
    assert np.mean(merged != 0) == pytest.approx(0.9, abs=0.01)
    wide = merge_tensors("della_linear", [delta.T], base=np.zeros_like(delta.T), weight=1, density=0.9, rescale=False)
    assert np.mean(wide != 0) == pytest.approx(0.9, abs=0.01)


def test_della_ranks_along_the_last_axis_of_a_stack_of_matrices() -> None:
    # mergekit ranks along the second axis, in which these entries are all equal
    delta = np.broadcast_to(np.arange(1, 11, dtype=np.float32), (200, 5, 10)).copy()
    options = {"weight": 1, "density": 0.5, "epsilon": 0.5, "rescale": False}
    merged = merge_tensors("della_linear", [delta], base=np.zeros_like(delta), **options)
    assert (merged[..., 0] == 0).all()
    assert (merged[..., 9] == 10).all()


def test_arcee_fusion_is_the_same_each_time_in_a_tensor_of_more_than_a_million_entries() -> None:
    # mergekit takes the quartiles of a random sample there
    generator = np.random.default_rng(0)
    base = generator.standard_normal((1100, 1000)).astype(np.float32)
    model = base + 0.01 * generator.standard_normal(base.shape).astype(np.float32) * (
        generator.random(base.shape) < 0.7
    )
    merged = merge_tensors("arcee_fusion", [model], base=base)
    p, q = (np.exp(t.astype("f8")) / np.exp(t.astype("f8")).sum(axis=1, keepdims=True) + 1e-8 for t in (model, base))
    scores = np.abs(model.astype("f8") - base) * (p * np.log(p / q)).sum(axis=1, keepdims=True)
    low, median, high = np.sort(scores, axis=None)[
        [(scores.size - 1) // 4, (scores.size - 1) // 2, 3 * (scores.size - 1) // 4]
    ]
    expected = np.where(scores >= median + 1.5 * (high - low), model, base)
    assert 0.01 < np.mean(merged != base) < 0.3
    assert np.mean(merged != expected) < 1e-5


def test_cabs_gives_each_model_its_share_of_every_group_in_turn() -> None:
    deltas = [f32(4, 3, 2, 1, 9), f32(5, 1, 0, 2, 9)]
    # the last group has one entry: ⌈2 · 1/4⌉ = 1 for the first model, and none is left
    merged = merge_tensors("cabs", deltas, base=np.zeros(5, "f4"), n=2, m=4)
    np.testing.assert_array_equal(merged, [4, 3, 0, 2, 9])
    turned = merge_tensors("cabs", deltas[::-1], base=np.zeros(5, "f4"), n=2, m=4)
    np.testing.assert_array_equal(turned, [5, 3, 2, 2, 9])


def test_pcb_over_the_whole_model_sees_one_tensor_as_the_tensor() -> None:
    deltas = list(np.random.default_rng(0).standard_normal((3, 20, 30)).astype(np.float32))
    base = np.zeros_like(deltas[0])
    whole = merge_tensors("pcb", deltas, base=base)
    assert whole.tobytes() == merge_tensors("pcb", deltas, base=base, scope="tensor").tobytes()
    assert 0.1 < np.mean(whole != 0) < 0.3


def test_cabs_takes_a_tensor_smaller_than_a_group_as_one() -> None:
    merged = merge_tensors("cabs", [f32(4, 3, 2, 1)], base=np.zeros(4, "f4"), n=10**9, m=2 * 10**9)
    np.testing.assert_array_equal(merged, [4, 3, 0, 0])
