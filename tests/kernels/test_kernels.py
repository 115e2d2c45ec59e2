"""Compiled kernels against the plain ones: the same bits, for any block."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cuvee.kernels import fused, plain

FLOATS = {"float32": 32, "float64": 64}


@st.composite
def stacks(draw: st.DrawFn) -> np.ndarray:
    """[models, n] with many equal magnitudes, both zeros, tiny and huge numbers."""
    dtype = np.dtype(draw(st.sampled_from(sorted(FLOATS))))
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 70)))
    common = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 3e-39, 1e30])
    numbers = st.floats(-8, 8, width=FLOATS[dtype.name])
    return draw(hnp.arrays(dtype, shape, elements=st.one_of(common, numbers)))


def filled(kernels: object, name: str, *arguments: object, shape: tuple[int, ...], dtype: object) -> np.ndarray:
    out = np.zeros(shape, dtype)
    getattr(kernels, name)(*arguments, out)
    return out


@given(stacks())
def test_gram_is_the_same_and_right(stack: np.ndarray) -> None:
    shape = (len(stack), len(stack))
    compiled = filled(fused, "gram", stack, shape=shape, dtype=np.float64)
    assert compiled.tobytes() == filled(plain, "gram", stack, shape=shape, dtype=np.float64).tobytes()
    wide = stack.astype(np.float64)
    np.testing.assert_allclose(compiled, wide @ wide.T, rtol=1e-12, atol=1e-12 * np.abs(wide).max() ** 2)


@given(stacks(), st.integers(1, 4))
def test_row_grams_are_those_of_the_rows(row: np.ndarray, rows: int) -> None:
    stack = np.concatenate([row * (i + 1) for i in range(rows)], axis=1)
    shape = (rows, len(row), len(row))
    compiled = filled(fused, "row_grams", stack, shape=shape, dtype=np.float64)
    assert compiled.tobytes() == filled(plain, "row_grams", stack, shape=shape, dtype=np.float64).tobytes()
    for i in range(rows):
        one = filled(plain, "gram", row * (i + 1), shape=shape[1:], dtype=np.float64)
        assert compiled[i].tobytes() == one.tobytes()


@given(stacks())
def test_ranks_are_those_of_a_stable_sort(stack: np.ndarray) -> None:
    rows = np.abs(stack).astype(np.float32)
    expected = np.argsort(np.argsort(-rows, axis=1, kind="stable"), axis=1)
    np.testing.assert_array_equal(filled(fused, "ranks", rows, shape=rows.shape, dtype=np.int32), expected)


@given(stacks())
def test_absolute_sums_are_the_same_and_right(stack: np.ndarray) -> None:
    compiled = filled(fused, "absolute_sums", stack, shape=(len(stack),), dtype=np.float64)
    assert compiled.tobytes() == filled(plain, "absolute_sums", stack, shape=(len(stack),), dtype=np.float64).tobytes()
    np.testing.assert_allclose(compiled, np.abs(stack.astype(np.float64)).sum(axis=1))


@given(stacks(), st.integers(0, 2**32))
def test_combine_is_the_same(stack: np.ndarray, seed: int) -> None:
    coefficients = np.random.default_rng(seed).standard_normal(len(stack))
    outs = [filled(k, "combine", stack, coefficients, shape=stack.shape[1:], dtype=stack.dtype) for k in (fused, plain)]
    assert outs[0].tobytes() == outs[1].tobytes()


@given(stacks(), st.floats(-4, 4))
def test_add_scaled_is_the_same_and_leaves_untouched_entries_alone(stack: np.ndarray, scale: float) -> None:
    base, delta = stack[0], stack[-1]
    outs = [filled(k, "add_scaled", base, delta, scale, shape=base.shape, dtype=base.dtype) for k in (fused, plain)]
    assert outs[0].tobytes() == outs[1].tobytes()
    assert outs[0][delta == 0].tobytes() == base[delta == 0].tobytes()


@given(stacks(), st.data())
def test_digit_counts_are_the_same(stack: np.ndarray, data: st.DataObject) -> None:
    row = stack[0]
    bits = row.dtype.itemsize * 8
    width = data.draw(st.integers(1, 16))
    shift = data.draw(st.integers(0, bits - 1 - width))
    magnitude = int(np.abs(row[:1]).view(f"u{row.dtype.itemsize}")[0])
    prefix = magnitude >> (shift + width)
    arguments = (row, prefix, shift, width)
    outs = [filled(k, "digit_counts", *arguments, shape=(1 << width,), dtype=np.int64) for k in (fused, plain)]
    np.testing.assert_array_equal(*outs)
    assert outs[0].sum() >= 1


@given(stacks(), st.integers(1, 9))
def test_the_nth_equal_entry_is_the_same(stack: np.ndarray, n: int) -> None:
    magnitude = float(abs(stack[0, 0]))
    assert fused.nth_equal(stack[0], magnitude, n) == plain.nth_equal(stack[0], magnitude, n)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**40), st.integers(1, 50))
def test_random_numbers_are_the_same_and_depend_on_the_index_alone(a: int, b: int, start: int, n: int) -> None:
    outs = [filled(k, "uniform", (a, b), start, shape=(n,), dtype=np.float32) for k in (fused, plain)]
    assert outs[0].tobytes() == outs[1].tobytes()
    one = filled(fused, "uniform", (a, b), start + n - 1, shape=(1,), dtype=np.float32)
    assert one[0] == outs[0][-1]


def test_random_numbers_are_uniform_and_do_not_repeat_between_keys() -> None:
    first = filled(fused, "uniform", (1, 2), 0, shape=(1 << 20,), dtype=np.float32)
    counts = np.bincount((first * 64).astype(int), minlength=64)
    expected = first.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 110  # chi-squared, 63 degrees: p about 0.0003
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.004
    for key in ((2, 2), (1, 3)):
        other = filled(fused, "uniform", key, 0, shape=first.shape, dtype=np.float32)
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.004


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_widen_and_narrow_are_the_same_for_every_bit_pattern(name: str) -> None:
    dtype = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    patterns = np.arange(1 << 16, dtype=np.uint16)
    raw = patterns.view(dtype) if dtype.itemsize == 2 else patterns.view(np.float16).astype(dtype)
    with np.errstate(invalid="ignore"):
        finite = raw[np.isfinite(raw.astype(np.float64))]
    for kernels in (fused, plain):
        wide, back = np.empty(raw.size, np.float32), np.empty(raw.size, dtype)
        assert not kernels.widen(raw, wide)
        assert kernels.widen(finite, np.empty(finite.size, np.float32))
        np.testing.assert_array_equal(wide[np.isfinite(wide)], finite.astype(np.float32))
        assert not kernels.narrow(wide, back)
        np.testing.assert_array_equal(back.astype(np.float32), wide)


@given(hnp.arrays(np.uint32, 64))
def test_rounding_to_bfloat16_is_to_nearest_even(bits: np.ndarray) -> None:
    values = bits.view(np.float32)
    out = np.empty(values.size, ml_dtypes.bfloat16)
    finite = fused.narrow(values, out)
    with np.errstate(invalid="ignore"):
        expected = values.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(out.astype(np.float32), expected.astype(np.float32))
    assert finite == bool(np.isfinite(expected.astype(np.float32)).all())


@given(stacks(), st.booleans(), st.sampled_from(["bfloat16", "float16", "float32"]))
def test_rows_are_widened_alike_and_the_base_is_subtracted(stack: np.ndarray, subtracted: bool, name: str) -> None:
    dtype = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    with np.errstate(over="ignore"):
        rows = np.concatenate([stack, stack[:1]]).astype(dtype)
    n = rows.shape[1] - 1
    for kernels in (fused, plain):
        out, base = np.empty((len(stack), n), np.float32), np.empty(n if subtracted else 0, np.float32)
        read = rows if subtracted else rows[:-1]
        finite = kernels.widen_rows(read, 1, out, base)
        wide = read[:, 1:].astype(np.float32)
        assert finite == bool(np.isfinite(wide).all())
        with np.errstate(invalid="ignore"):
            expected = wide[:-1] - wide[-1] if subtracted else wide
        np.testing.assert_array_equal(out, expected)
