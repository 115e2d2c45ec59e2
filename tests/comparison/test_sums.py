"""The compiled sums over pairs against their definition."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.comparison.sums import sums_by_definition, sums_of

pytest.importorskip("numba")
TILE = 1024


@given(
    seed=st.integers(0, 2**32 - 1),
    models=st.integers(1, 4),
    n=st.sampled_from([0, 1, 5, TILE - 1, TILE, TILE + 1, 3 * TILE + 7]),
    dtype=st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16]),
    scale=st.sampled_from([1.0, 1e-40, 1e4]),
)
def test_compiled_sums_equal_the_definition(seed: int, models: int, n: int, dtype: type, scale: float) -> None:
    generator = np.random.default_rng(seed)
    numbers = generator.integers(-3, 4, (1 + models, n)) * generator.choice([0.0, 1.0, 0.1], (1 + models, n))
    stack = (numbers * scale).astype(dtype)
    found, wanted = sums_of(stack), sums_by_definition(stack)
    np.testing.assert_array_equal(found.both, wanted.both)
    np.testing.assert_array_equal(found.conflicts, wanted.conflicts)
    norms = np.sqrt(np.diag(wanted.gram))
    np.testing.assert_allclose(found.gram, wanted.gram, rtol=1e-12, atol=1e-12 * norms.max(initial=0) ** 2)
    np.testing.assert_allclose(found.base, wanted.base, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("place", [(0, 3), (1, TILE)])
def test_numbers_that_are_not_finite_show_in_the_sums(dtype: type, place: tuple[int, int]) -> None:
    stack = np.ones((2, TILE + 1), dtype)
    stack[place] = np.inf
    found = sums_of(stack)
    assert not np.isfinite(found.gram + found.base).all()
