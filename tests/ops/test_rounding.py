"""Random rounding: to a neighbour, right on average, and the same bits for the same seed."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import cuvee
from cuvee.kernels import BLOCK
from cuvee.ops.rounding import round_at_random

BF16, F16 = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)
TYPES = pytest.mark.parametrize("dtype", [BF16, F16], ids=str)


def rounded(values: np.ndarray, uniform: np.ndarray, dtype: np.dtype) -> np.ndarray:
    out = np.empty(values.shape, dtype)
    round_at_random(values, uniform, out)
    return out


@TYPES
@given(values=arrays(np.float32, 20, elements=st.floats(-1000, 1000, width=32)), draw=st.floats(0, 1, exclude_max=True))
def test_numbers_go_to_one_of_two_neighbours(dtype: np.dtype, values: np.ndarray, draw: float) -> None:
    out = rounded(values, np.full(values.shape, draw, np.float32), dtype)
    wide = out.astype(np.float32)
    up, down = (np.nextafter(out, dtype.type(end)).astype(np.float32) for end in (np.inf, -np.inf))
    assert ((down < values) & (values < up)).all()
    np.testing.assert_array_equal(rounded(wide, np.zeros_like(values), dtype).view(np.uint16), out.view(np.uint16))


@TYPES
@pytest.mark.parametrize("value", [1.001, -1.001, 0.3, -7e-5, 3e-8, 2.0**-24 * 1.25])
def test_the_mean_of_all_draws_is_the_number(dtype: np.dtype, value: float) -> None:
    count = 1 << 16
    draws = ((np.arange(count) + 0.5) / count).astype(np.float32)
    exact = np.full(count, value, np.float32)
    mean = rounded(exact, draws, dtype).astype(np.float64).mean()
    near = dtype.type(value)
    step = float(np.nextafter(near, dtype.type(np.inf))) - float(near)
    assert abs(mean - float(exact[0])) <= 2 * step / count


@TYPES
def test_what_the_type_holds_stays_and_what_is_too_large_is_told(dtype: np.dtype) -> None:
    largest = float(ml_dtypes.finfo(dtype).max)
    held = np.array([0.0, -0.0, 1.0, -2.5, largest], np.float32)
    np.testing.assert_array_equal(
        rounded(held, np.zeros(5, np.float32), dtype).view(np.uint16), held.astype(dtype).view(np.uint16)
    )
    for value in (np.inf, np.nan, -np.inf):
        out = np.empty(1, dtype)
        assert not round_at_random(np.array([value], np.float32), np.zeros(1, np.float32), out)
        np.testing.assert_array_equal(out.astype(np.float32), np.float32(value))


def merge(dtype: np.dtype, **options: object) -> np.ndarray:
    """Merge a change from 1 by an eighth of a step of the type."""
    size = 2 * BLOCK + 5
    base = {"a": np.ones(size, dtype), "b": np.ones(size, dtype)}
    step = float(np.nextafter(dtype.type(1), dtype.type(2))) - 1
    expert = {"a": np.full(size, 1 + step, np.float32), "b": np.full(size, 1 + step, np.float32)}
    first = {name: array.astype(dtype) for name, array in expert.items()}
    return cuvee.merge_state_dicts("task_arithmetic", [first], base=base, weight=0.125, **options)


@TYPES
def test_a_small_change_is_lost_by_nearest_and_kept_on_average_by_stochastic(dtype: np.dtype) -> None:
    step = float(np.nextafter(dtype.type(1), dtype.type(2))) - 1
    assert (merge(dtype)["a"] == 1).all()
    change = merge(dtype, rounding="stochastic")["a"].astype(np.float64) - 1
    assert change.mean() == pytest.approx(0.125 * step, rel=0.05)


def test_draws_depend_on_seed_and_tensor_and_on_nothing_else() -> None:
    first = merge(BF16, rounding="stochastic")
    again = merge(BF16, rounding="stochastic", threads=2, names=["another"])
    assert first["a"].tobytes() == again["a"].tobytes()
    assert first["a"].tobytes() != first["b"].tobytes()
    assert first["a"].tobytes() != merge(BF16, rounding="stochastic", seed=1)["a"].tobytes()
    recipes = [
        cuvee.recipe_from_text(f"merge_method: linear\nmodels: [{{model: a}}]\n{r}")
        for r in ("", "rounding: stochastic")
    ]
    assert recipes[0].digest != recipes[1].digest
