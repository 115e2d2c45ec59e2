"""Spectra against NumPy's singular value decomposition."""

import numpy as np
import pytest

from cuvee.ops.spectrum import isotropic, low_rank, polar, spectrum


def random(out: int, size: int, rank: int | None = None, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if rank is None:
        return generator.standard_normal((out, size)).astype(np.float32)
    return generator.standard_normal((out, rank)) @ generator.standard_normal((rank, size))


MATRICES = {
    "square": random(40, 40),
    "tall": random(90, 20),
    "wide": random(20, 90),
    "one row": random(1, 30),
    "one column": random(30, 1),
    "one number": random(1, 1),
    "low rank": random(50, 30, rank=4),
    "low rank in float32": random(50, 30, rank=4).astype(np.float32),
    "zero": np.zeros((7, 5), np.float32),
    "uneven": np.diag(np.logspace(0, -4, 12)) @ random(12, 30),
}


def direct(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    kept = values > 1e-5 * values[0] if values[0] > 0 else values > 0
    return left[:, kept], values[kept], right[kept]


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_values_and_directions_are_those_of_the_decomposition(matrix: np.ndarray) -> None:
    found, (_, values, _) = spectrum(matrix), direct(matrix)
    np.testing.assert_allclose(found.values, values, rtol=1e-6)
    np.testing.assert_allclose((found.left * found.values) @ found.right.T, matrix, atol=1e-5 * np.abs(matrix).max())
    np.testing.assert_allclose(found.left.T @ found.left, np.eye(found.rank), atol=1e-6)
    np.testing.assert_allclose(found.right.T @ found.right, np.eye(found.rank), atol=1e-6)


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_polar_factors_are_those_of_the_decomposition(matrix: np.ndarray) -> None:
    left, values, right = direct(matrix)
    np.testing.assert_allclose(polar(matrix), left @ right, atol=1e-6)
    mean = values.mean() if values.size else 0.0
    np.testing.assert_allclose(isotropic(matrix), mean * (left @ right), atol=5e-6 * max(mean, 1))


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_low_rank_is_the_truncated_decomposition(matrix: np.ndarray) -> None:
    left, values, right = direct(matrix)
    wanted = (left[:, :3] * values[:3]) @ right[:3]
    np.testing.assert_allclose(low_rank(matrix, 3), wanted, atol=1e-6 * max(np.abs(matrix).max(), 1))


def test_a_polar_factor_gives_no_strength_to_directions_that_are_not_there() -> None:
    matrix = MATRICES["low rank in float32"]
    values = np.linalg.svd(polar(matrix), compute_uv=False)
    np.testing.assert_allclose(values[:4], 1, atol=1e-6)
    assert values[4:].max() < 1e-6
