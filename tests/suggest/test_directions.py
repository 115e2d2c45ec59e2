"""Sketches against singular values: they add up over rows, and tell the rank and the leading directions."""

import numpy as np
import pytest

from cuvee.suggest.directions import LEADING, effective_rank, is_sketched, leading_directions, overlap, sketch_of


def matrix(values: np.ndarray, outputs: int = 300, inputs: int = 200, seed: int = 0) -> np.ndarray:
    """Return a matrix with these singular values."""
    generator = np.random.default_rng(seed)
    left = np.linalg.qr(generator.standard_normal((outputs, len(values))))[0]
    right = np.linalg.qr(generator.standard_normal((inputs, len(values))))[0]
    return ((left * values) @ right.T).astype(np.float32)


def sketch(change: np.ndarray) -> np.ndarray:
    stack = np.stack([np.zeros_like(change), change]).reshape(2, -1)
    return sketch_of(stack, change.shape[1])[0]


def test_sketches_of_rows_add_up_to_that_of_the_matrix() -> None:
    change = matrix(np.linspace(1, 2, 50))
    parts = sum(sketch(rows) for rows in np.array_split(change, 7))
    np.testing.assert_allclose(parts, sketch(change), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rank", [1, 4, 30, 150])
def test_the_effective_rank_of_equal_singular_values_is_their_number(rank: int) -> None:
    change = matrix(np.ones(rank))
    assert effective_rank(sketch(change), float(rank)) == pytest.approx(rank, rel=0.25)


def test_the_effective_rank_is_that_of_the_singular_values() -> None:
    values = 1 / np.arange(1, 101)
    squares = np.square(values)
    exact = squares.sum() ** 2 / np.square(squares).sum()
    ranks = [effective_rank(sketch(matrix(values, seed=seed)), float(squares.sum())) for seed in range(20)]
    assert np.mean(ranks) == pytest.approx(exact, rel=0.15)


def test_leading_directions_are_those_of_the_largest_singular_values() -> None:
    change = matrix(2.0 ** -np.arange(40))
    exact = np.linalg.svd(change)[2][:LEADING].T
    assert overlap(leading_directions(sketch(change)), exact) > 0.97


def test_directions_at_right_angles_do_not_overlap() -> None:
    axes = np.eye(2 * LEADING)
    assert overlap(axes[:, :LEADING], axes[:, :LEADING]) == 1
    assert overlap(axes[:, :LEADING], axes[:, LEADING:]) == 0


@pytest.mark.parametrize(
    ("shape", "sketched"), [((16, 16), True), ((4, 8, 16), True), ((15, 16), False), ((64, 4), False), ((64,), False)]
)
def test_only_matrices_that_are_large_enough_are_sketched(shape: tuple[int, ...], sketched: bool) -> None:
    assert is_sketched(shape) == sketched
