"""Compiled kernels against the plain ones: the same bits, for any block."""

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cuvee.kernels import LANES, ZEROS, Above, Block, Kept, Kernels, fused, plain

BRAIN, HALF, SINGLE = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16), np.dtype(np.float32)
TYPES = [BRAIN, HALF, SINGLE]
COMMON = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.0078125, 6e-8, 3e-39, 1e4]


@st.composite
def blocks(draw: st.DrawFn, one_type: bool = False) -> Block:
    """Blocks with many equal magnitudes, both zeros, tiny and large numbers."""
    dtype = draw(st.sampled_from(TYPES))
    shape = (draw(st.integers(2, 5)), draw(st.integers(1, 2 * LANES + 5)))
    numbers = st.one_of(st.sampled_from(COMMON), st.floats(-8, 8, width=32))
    rows = draw(hnp.arrays(np.float32, shape, elements=numbers)).astype(dtype)
    start = draw(st.sampled_from([0, 7, 2**32 - 20]))
    computed = draw(st.sampled_from([SINGLE, BRAIN] if dtype == BRAIN else [SINGLE]))
    return Block(rows, start, computed, draw(st.booleans()), fused)


def by(kernels: Kernels, block: Block) -> Block:
    return Block(block.rows, block.start, block.dtype, block.subtracts, kernels)


def the_same(block: Block, run: Callable[[Kernels, Block], list[np.ndarray]]) -> list[np.ndarray]:
    """Run something with both kinds of kernels, see that the bits are equal, and return what came out."""
    found = run(fused, by(fused, block))
    for one, other in zip(found, run(plain, by(plain, block)), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one.astype(np.float64), other.astype(np.float64))
    return found


@given(blocks(), st.integers(0, 2**32), st.booleans())
def test_merges_are_the_same(block: Block, seed: int, add: bool) -> None:
    random = np.random.default_rng(seed)
    # kernels are compiled for each set of types, which takes seconds: the output's is that of the models
    out = block.rows.dtype
    models, add = block.models, add and block.subtracts
    weight = random.choice([0.0, 0.3, 1.0, -0.7], models)
    factor = random.choice([1.0, 1.7], models)
    mask = random.random((models, block.size)) < 0.6
    threshold, accept = np.full(models, 0.5), random.integers(0, 3, models)
    choice = random.integers(0, 4)
    scale, votes, normalize, even = random.choice([1.0, 0.4]), *(random.random(2) < 0.5), random.choice([1.0, -1.0, 0])

    def run(kernels: Kernels, block: Block) -> list[np.ndarray]:
        outs = [np.zeros(block.size, out) for _ in range(3)]
        loss = np.zeros(2)

        def kept() -> Kept:
            outer, inner = (Above(t, accept, np.zeros(models, np.int64)) for t in (threshold, 2 * threshold))
            return (Kept(), Kept(mask), Kept(outer=outer), Kept(outer=outer, inner=inner))[choice]

        kernels.combine(block, weight, scale, add, outs[0], loss)
        kernels.weighted_sum(block, kept(), factor, weight, 1.3, scale, add, outs[1], loss)
        kernels.elected_sum(
            block, kept(), factor, weight, bool(votes), bool(normalize), even, scale, add, outs[2], loss
        )
        return outs

    the_same(block, run)


@given(blocks(), st.integers(0, 3))
def test_what_lies_above_a_threshold_is_the_same_however_it_is_cut(block: Block, accepted: int) -> None:
    magnitudes = np.abs(by(plain, block).stack.astype(np.float64))
    threshold = np.sort(magnitudes, axis=1)[:, block.size // 2]

    def run(kernels: Kernels, block: Block) -> list[np.ndarray]:
        keep, seen = np.zeros((block.models, block.size), np.bool_), np.zeros(block.models, np.int64)
        cut = block.size // 3
        for first, last in ((0, cut), (cut, block.size)):
            rows = np.ascontiguousarray(block.rows[:, first:last])
            part, mask = (
                Block(rows, first, block.dtype, block.subtracts, kernels),
                np.empty(keep[:, first:last].shape, bool),
            )
            kernels.keep(part, Above(threshold, np.full(block.models, accepted), seen), mask)
            keep[:, first:last] = mask
        return [keep, seen]

    keep, seen = the_same(block, run)
    equal = magnitudes == threshold[:, None]
    first_ones = equal & (np.cumsum(equal, axis=1) <= accepted)
    np.testing.assert_array_equal(keep, (magnitudes > threshold[:, None]) | first_ones)
    np.testing.assert_array_equal(seen, equal.sum(axis=1))


@given(blocks(), st.integers(1, 40), st.integers(0, 2**32))
def test_choices_by_rank_are_the_same(block: Block, length: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    length = random.choice([length, 150, 300])
    columns = random.integers(0, block.size, (length * 3,))  # many equal magnitudes, in long rows too
    rows = np.ascontiguousarray(block.rows[:, columns])
    wide = Block(rows, 3 * length, block.dtype, block.subtracts, fused)
    chance = -np.sort(-random.random((wide.models, length)).astype(np.float32))
    keys = random.integers(0, 2**32, (wide.models, 2))

    def run(kernels: Kernels, block: Block) -> list[np.ndarray]:
        keep = np.zeros((block.models, block.size), np.bool_)
        kernels.keep_by_rank(block, chance, keys, keep)
        return [keep]

    the_same(wide, run)


@pytest.mark.parametrize("step", [0.0, 1e-4, 1.0], ids=["equal", "nearly equal", "far apart"])
def test_choices_by_rank_are_the_same_in_long_rows(step: float) -> None:
    length = 3003
    magnitudes = 1000 + step * np.random.default_rng(0).permutation(2 * length).astype(np.float32)
    block = Block(magnitudes[None], 2**32 - length, SINGLE, False, fused)
    chance = np.linspace(0.9, 0.1, length, dtype=np.float32)[None]

    def run(kernels: Kernels, block: Block) -> list[np.ndarray]:
        keep = np.zeros((1, block.size), np.bool_)
        kernels.keep_by_rank(block, chance, np.array([[3, 4]]), keep)
        return [keep]

    keep = the_same(block, run)[0].reshape(2, length)
    places = np.argsort(np.argsort(-magnitudes.reshape(2, length), axis=1, kind="stable"), axis=1)
    assert keep[places < length // 4].mean() == pytest.approx(0.8, abs=0.04)
    assert keep[places >= length - length // 4].mean() == pytest.approx(0.2, abs=0.04)


@given(blocks(), st.booleans())
def test_one_mask_stands_for_all_models(block: Block, elects: bool) -> None:
    mask = np.arange(block.size)[None] % 3 > 0
    weight = np.full(block.models, 0.7)

    def run(kernels: Kernels, block: Block) -> list[np.ndarray]:
        outs = [np.zeros(block.size, block.rows.dtype) for _ in range(2)]
        for out, kept in zip(outs, (mask, np.repeat(mask, block.models, axis=0)), strict=True):
            if elects:
                kernels.elected_sum(block, Kept(kept), weight, weight, True, True, 1.0, 1.0, False, out, np.zeros(2))
            else:
                kernels.weighted_sum(block, Kept(kept), weight, weight, 1.0, 1.0, False, out, np.zeros(2))
        return outs

    one, each = the_same(block, run)
    np.testing.assert_array_equal(one, each)


@given(blocks(), st.booleans())
def test_sums_are_the_same_and_right(block: Block, masked: bool) -> None:
    mask = np.arange(block.models * block.size).reshape(block.models, -1) % 3 > 0

    def run(kernels: Kernels, block: Block) -> list[np.ndarray]:
        found = [np.zeros((block.models, block.models)), *np.zeros((2, block.models)), np.zeros((2, block.models))]
        found.append(np.zeros(block.models))
        chosen = Kept(mask) if masked else Kept()
        kernels.gram(block, found[0])
        kernels.squares(block, Kept(), found[1])
        kernels.squares(block, chosen, found[2])
        kernels.magnitude_sums(block, chosen, found[3])
        kernels.squares(block, chosen, found[4], rounds=True)
        return found

    gram, squares, of_kept, (magnitudes, kept), of_rounded = the_same(block, run)
    wide = by(plain, block).stack.astype(np.float64)
    np.testing.assert_allclose(gram, wide @ wide.T, rtol=1e-12, atol=1e-12 * np.abs(wide).max() ** 2)
    np.testing.assert_array_equal(squares, np.diagonal(gram))
    np.testing.assert_allclose(of_kept, (np.where(mask, wide, 0) ** 2 if masked else wide**2).sum(axis=1))
    np.testing.assert_allclose(of_rounded, of_kept, rtol=0.01, atol=1e-37)
    np.testing.assert_allclose(magnitudes, np.abs(wide).sum(axis=1))
    np.testing.assert_allclose(kept, np.abs(np.where(mask, wide, 0) if masked else wide).sum(axis=1))


@pytest.mark.parametrize("models", range(1, 6))
def test_inner_products_of_many_numbers_are_the_same(models: int) -> None:
    rows = np.random.default_rng(models).normal(0, 1, (models, 70_003)).astype(BRAIN)

    def run(kernels: Kernels, block: Block) -> list[np.ndarray]:
        sums = np.zeros((models, models))
        kernels.gram(block, sums)
        return [sums]

    the_same(Block(rows, 0, SINGLE, False, fused), run)


@given(blocks(), st.integers(1, 4))
def test_row_grams_are_those_of_the_rows(block: Block, rows: int) -> None:
    whole = Block(np.tile(block.rows, (1, rows)), 0, block.dtype, block.subtracts, fused)

    def run(kernels: Kernels, block: Block) -> list[np.ndarray]:
        sums = np.zeros((rows, block.models, block.models))
        kernels.row_grams(block, sums)
        return [sums]

    one = np.zeros((block.models, block.models))
    plain.gram(by(plain, block), one)
    for sums in the_same(whole, run)[0]:
        assert sums.tobytes() == one.tobytes()


@given(blocks())
def test_digits_are_the_same_and_count_every_number(block: Block) -> None:
    wide = by(plain, block).stack[0].astype(np.float32)
    bits = np.abs(wide).view(np.uint32)
    prefix, first = int(bits[0]) >> 13, np.zeros(1, np.int64)

    def run(kernels: Kernels, block: Block) -> list[np.ndarray]:
        leading, further = np.zeros((2 << 18) + ZEROS, np.uint32), np.zeros((2 << 13) + ZEROS, np.uint32)
        kernels.digit_counts(block, first, first, 13, 18, leading[None])
        kernels.digit_counts(block, first, np.array([prefix]), 0, 13, further[None])
        zeros = leading[-ZEROS:].sum()
        leading[-ZEROS:] = 0
        leading[0] += zeros
        return [leading, further]

    leading, further = the_same(block, run)
    np.testing.assert_array_equal(
        leading[: 1 << 18] + leading[1 << 18 : 2 << 18], np.bincount(bits >> 13, minlength=1 << 18)
    )
    assert leading[: 1 << 18].sum() == np.count_nonzero((bits & 0x1FFF) == 0)
    assert further.sum() == np.count_nonzero(bits >> 13 == prefix)


@given(blocks(), st.integers(1, 3))
def test_distances_of_rows_are_the_same(block: Block, rows: int) -> None:
    pair = Block(np.tile(block.rows[:2].clip(-8, 8), (1, rows)), 0, SINGLE, False, fused)

    def run(kernels: Kernels, block: Block) -> list[np.ndarray]:
        out = np.empty(block.size, np.float32)
        kernels.scaled_distances(block, np.arange(rows) + 0.3, out)
        return [out]

    the_same(pair, run)
    found = np.empty((2, rows))
    for kernels, apart in zip((fused, plain), found, strict=True):
        kernels.divergences(by(kernels, pair), 1e-8, apart)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9, atol=1e-15)


@given(blocks())
def test_entries_are_taken_from_either_model_bit_for_bit(block: Block) -> None:
    pair = Block(np.ascontiguousarray(block.rows[:2]), 0, block.dtype, False, fused)
    mask = np.arange(block.size) % 3 > 0

    def run(kernels: Kernels, block: Block) -> list[np.ndarray]:
        out = np.empty(block.size, block.rows.dtype)
        kernels.take(block, mask, out)
        return [out]

    np.testing.assert_array_equal(the_same(pair, run)[0], np.where(mask, pair.rows[1], pair.rows[0]))


@given(blocks())
def test_numbers_near_a_value_are_counted_alike(block: Block) -> None:
    magnitudes = np.abs(by(plain, block).stack.astype(np.float32))
    values = np.sort(magnitudes, axis=1)[:, [0, block.size // 2, -1]]
    models = np.arange(block.models)[::-1].copy()

    def run(kernels: Kernels, block: Block) -> list[np.ndarray]:
        counts = np.zeros((block.models, 3, 2), np.int64)
        kernels.count_near(block, models, np.ascontiguousarray(values[models]), counts)
        return [counts]

    counts = the_same(block, run)[0]
    for model, near, count in zip(models, values[models], counts, strict=True):
        expected = [[(magnitudes[model] > v).sum(), (magnitudes[model] == v).sum()] for v in near]
        np.testing.assert_array_equal(count, expected)


@given(blocks())
def test_task_vectors_are_widened_alike(block: Block) -> None:
    found = the_same(block, lambda kernels, block: [block.stack, block.base])
    wide = block.rows.astype(block.dtype)
    np.testing.assert_array_equal(found[0], wide[:-1] - wide[-1] if block.subtracts else wide)


@given(blocks())
def test_variances_are_the_same_and_right(block: Block) -> None:
    def run(kernels: Kernels, block: Block) -> list[np.ndarray]:
        out = np.empty(block.size, block.dtype)
        kernels.variances(block, out)
        return [out]

    numbers = block.stack.astype(np.float64)
    exact = 1e-2 if block.dtype.itemsize == 2 else 1e-4
    # the mean of equal numbers is off by a unit in the last place or two
    near = 1e-12 * np.abs(numbers).max() ** 2 + 1e-37
    np.testing.assert_allclose(the_same(block, run)[0].astype(np.float64), numbers.var(axis=0), rtol=exact, atol=near)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 70)), elements=st.sampled_from(COMMON)))
def test_ranks_are_those_of_a_stable_sort(rows: np.ndarray) -> None:
    found = [np.empty(rows.shape, np.int32) for _ in range(2)]
    for kernels, out in zip((fused, plain), found, strict=True):
        kernels.ranks(np.abs(rows), out)
    expected = np.argsort(np.argsort(-np.abs(rows), axis=1, kind="stable"), axis=1)
    np.testing.assert_array_equal(found, [expected, expected])


@given(blocks(), st.floats(-4, 4))
def test_add_scaled_is_the_same_and_leaves_untouched_entries_alone(block: Block, scale: float) -> None:
    base, delta = block.rows.astype(np.float32)[:2]
    outs = [np.empty_like(base) for _ in range(2)]
    for kernels, out in zip((fused, plain), outs, strict=True):
        kernels.add_scaled(base, delta, scale, out)
    assert outs[0].tobytes() == outs[1].tobytes()
    assert outs[0][delta == 0].tobytes() == base[delta == 0].tobytes()


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**40), st.integers(1, 50))
def test_random_numbers_are_the_same_and_depend_on_the_index_alone(a: int, b: int, start: int, n: int) -> None:
    draws, masks = np.empty((2, n), np.float32), np.empty((2, 1, n), np.bool_)
    for kernels, draw, mask in zip((fused, plain), draws, masks, strict=True):
        kernels.uniform((a, b), start, draw)
        kernels.keep_at_random(np.array([[a, b]]), np.array([0.4]), start, mask)
    assert draws[0].tobytes() == draws[1].tobytes()
    np.testing.assert_array_equal(masks[:, 0], draws < np.float32(0.4))
    one = np.empty(1, np.float32)
    fused.uniform((a, b), start + n - 1, one)
    assert one[0] == draws[0, -1]


def test_random_masks_go_on_over_the_end_of_32_bits() -> None:
    start, n = 2**32 - 100, 250
    mask, draws = np.empty((1, n), np.bool_), np.empty(n, np.float32)
    fused.keep_at_random(np.array([[5, 6]]), np.array([0.5]), start, mask)
    fused.uniform((5, 6), start, draws)
    np.testing.assert_array_equal(mask[0], draws < np.float32(0.5))


def test_random_numbers_are_uniform_and_do_not_repeat_between_keys() -> None:
    first = np.empty(1 << 20, np.float32)
    fused.uniform((1, 2), 0, first)
    counts = np.bincount((first * 64).astype(int), minlength=64)
    expected = first.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 110  # chi-squared, 63 degrees: p about 0.0003
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.004
    for key in ((2, 2), (1, 3)):
        other = np.empty_like(first)
        fused.uniform(key, 0, other)
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.004


@pytest.mark.parametrize("dtype", [BRAIN, HALF], ids=str)
def test_every_number_of_16_bits_is_widened_and_narrowed_back(dtype: np.dtype) -> None:
    raw = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    stack, back = np.empty((1, raw.size), np.float32), np.empty(raw.size, dtype)
    fused.widen(Block(raw[None], 0, SINGLE, False, fused), stack, np.empty(0, np.float32))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(stack[0], raw.astype(np.float32))
    fused.narrow(stack[0], back)
    np.testing.assert_array_equal(back.astype(np.float32), stack[0])
    assert fused.finite(raw[np.isfinite(stack[0])])
    assert not fused.finite(raw)


@pytest.mark.parametrize("dtype", [BRAIN, HALF], ids=str)
@given(bits=hnp.arrays(np.uint32, 64))
def test_rounding_is_to_nearest_even(bits: np.ndarray, dtype: np.dtype) -> None:
    for values in (bits.view(np.float32), (bits.astype(np.float64) * 1e-12).astype(np.float32)):
        out = np.empty(values.size, dtype)
        fused.narrow(values, out)
        with np.errstate(invalid="ignore", over="ignore"):
            expected = values.astype(dtype)
        np.testing.assert_array_equal(out.astype(np.float32), expected.astype(np.float32))
        for kernels in (fused, plain):
            rounded = values.copy()
            kernels.round_to(rounded, dtype)
            np.testing.assert_array_equal(rounded, expected.astype(np.float32))
        assert fused.finite(out) == plain.finite(expected)
