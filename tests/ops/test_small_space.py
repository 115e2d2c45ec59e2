"""Low rank is recognised under rounding errors, and nothing else is taken for it."""

import ml_dtypes
import numpy as np
import pytest

from cuvee.ops.small_space import recognised, small_space


def adapter(out: int, size: int, rank: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return 0.02 * generator.standard_normal((out, rank)) @ generator.standard_normal((rank, size)) / rank**0.5


@pytest.mark.parametrize("rank", [1, 4, 30])
def test_an_exact_low_rank_is_recognised(rank: int) -> None:
    matrix = adapter(160, 120, rank, 0)
    found = recognised(matrix.astype(np.float32))
    assert found is not None
    assert found.rank == rank
    np.testing.assert_allclose((found.left * found.values) @ found.right.T, matrix, atol=1e-6 * np.abs(matrix).max())


def test_low_rank_is_recognised_under_what_rounding_to_16_bits_adds() -> None:
    base = np.random.default_rng(1).standard_normal((160, 120)).astype(np.float32).astype(ml_dtypes.bfloat16)
    change = 2 * adapter(160, 120, 4, 0)
    baked = (base.astype(np.float64) + change).astype(ml_dtypes.bfloat16).astype(np.float64)
    delta = baked - base.astype(np.float64)
    errors = float(((delta - change) ** 2).sum())
    assert recognised(delta) is None
    found = recognised(delta, errors)
    assert found is not None
    assert found.rank == 4
    np.testing.assert_allclose((found.left * found.values) @ found.right.T, change, atol=0.01)


def test_full_rank_is_not_taken_for_low() -> None:
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((160, 120))
    assert recognised(noise) is None
    assert recognised(noise * np.logspace(0, -2, 120)) is None
    few_strong_ones = noise * 0.01 + adapter(160, 120, 4, 0) * 100
    assert recognised(few_strong_ones) is None


def test_changes_as_small_as_rounding_errors_stay() -> None:
    steps = np.random.default_rng(0).integers(-1, 2, (160, 120)) * 2.0**-8
    errors = float(np.count_nonzero(steps)) * 2.0**-16 / 12
    assert recognised(steps, errors) is None


def test_the_small_space_holds_all_of_the_task_vectors() -> None:
    deltas = np.stack([adapter(90, 70, rank, rank) for rank in (2, 3, 5)])
    space = small_space(deltas)
    assert space is not None
    assert space.cores.shape == (3, 10, 10)
    for delta, core in zip(deltas, space.cores, strict=True):
        np.testing.assert_allclose(space.lifted(core), delta, atol=1e-10)


def test_task_vectors_without_a_change_have_a_space_without_directions() -> None:
    space = small_space(np.zeros((2, 8, 9)))
    assert space is not None
    np.testing.assert_array_equal(space.lifted(space.cores[0]), np.zeros((8, 9)))
