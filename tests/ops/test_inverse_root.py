"""Large matrices of which float32 is enough, and those of which it is not, against decompositions in float64."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from cuvee.catalogue import registry
from cuvee.ops import inverse_root as module
from cuvee.ops.blas import one_thread_a_matrix
from cuvee.ops.inverse_root import inverse_root
from cuvee.ops.spectrum import isotropic

SHORT, LONG = 520, 1600


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread_a_matrix():
        yield


def noise(*shape: int) -> np.ndarray:
    return 1e-3 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def decaying(short: int, size: int) -> np.ndarray:
    """Return a matrix whose strongest direction is some hundred times as strong as the weakest."""
    turned, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((short, short)))
    return (turned @ (noise(short, size) * np.arange(1, short + 1)[:, None] ** -0.75)).astype(np.float32)


def of_low_rank(short: int, size: int) -> np.ndarray:
    """Return a matrix that has three quarters of the directions, all equally strong."""
    generator = np.random.default_rng(2)
    rank = short * 3 // 4
    left, _ = np.linalg.qr(generator.standard_normal((short, rank)))
    right, _ = np.linalg.qr(generator.standard_normal((size, rank)))
    return (left @ right.T).astype(np.float32)


KINDS = {"noise": noise, "decaying": decaying, "of low rank": of_low_rank}


def evened(matrix: np.ndarray) -> np.ndarray:
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    kept = values > 1e-5 * values[0]
    return values[kept].mean() * (left[:, kept] @ right[kept])


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_large_matrices_are_evened_as_in_float64(kind: Callable[..., np.ndarray]) -> None:
    matrix = kind(SHORT, LONG)
    wanted = evened(matrix)
    for merged in (isotropic(matrix), isotropic(matrix.T).T):
        np.testing.assert_allclose(merged, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_float32_is_enough_for_directions_of_like_strength_and_only_for_them() -> None:
    assert inverse_root(noise(SHORT, LONG)) is not None
    assert inverse_root(decaying(SHORT, LONG)) is None
    assert inverse_root(of_low_rank(SHORT, LONG)) is None
    assert inverse_root(noise(SHORT, SHORT)) is None
    assert inverse_root(noise(SHORT, LONG).astype(np.float64)) is None
    assert inverse_root(np.zeros((SHORT, LONG), np.float32)) is None
    assert inverse_root(np.float32(1e-20) * noise(SHORT, LONG)) is None
    assert inverse_root(np.full((SHORT, LONG), np.nan, np.float32)) is None


def test_a_root_that_is_too_far_off_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EVEN", np.inf)
    monkeypatch.setattr(module, "_CONDITION", np.inf)
    assert inverse_root(decaying(SHORT, LONG)) is None


def test_without_a_routine_for_float32_the_root_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = noise(SHORT, LONG)
    with_it = inverse_root(matrix)
    monkeypatch.delattr(np.linalg, "_umath_linalg")
    without = inverse_root(matrix)
    assert without.matrix.dtype == np.float32
    np.testing.assert_allclose(with_it.matrix, without.matrix, atol=1e-5 * np.abs(without.matrix).max())


def task_singular_vectors(deltas: np.ndarray, weights: list[float]) -> np.ndarray:
    """The definition, by decompositions."""
    kept = min(deltas[0].shape) // len(deltas)
    lefts, strengths, rights = [], [], []
    for delta, weight in zip(deltas, weights, strict=True):
        left, values, right = np.linalg.svd(weight * delta.astype(np.float64), full_matrices=False)
        count = kept if weight else 0
        lefts.append(left[:, :count])
        strengths.append(values[:count])
        rights.append(right[:count].T)
    left, right = (orthogonal(np.concatenate(parts, axis=1)) for parts in (lefts, rights))
    return (left * np.concatenate(strengths)) @ right.T


def orthogonal(matrix: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return left @ right


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.5, 0.0, -2.0]], ids=["even", "one out, one reversed"])
def test_large_task_singular_vectors_are_merged_as_in_float64(weights: list[float]) -> None:
    deltas = noise(3, SHORT, LONG)
    wanted = task_singular_vectors(deltas, weights)
    rule = registry()["tsv_m"].rule
    merged = rule(deltas, weight=weights)
    assert merged.dtype == np.float32
    np.testing.assert_allclose(merged, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    turned = rule(deltas.transpose(0, 2, 1), weight=weights).T
    np.testing.assert_allclose(turned, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_large_task_vectors_with_much_in_common_are_merged_as_in_float64() -> None:
    deltas = np.stack([decaying(SHORT, LONG) * scale for scale in (1, 2)])
    deltas[1] += noise(SHORT, LONG)[::-1]
    wanted = task_singular_vectors(deltas, [1.0, 1.0])
    merged = registry()["tsv_m"].rule(deltas)
    np.testing.assert_allclose(merged, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
