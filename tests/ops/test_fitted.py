"""Large fits to own inputs against the plain definition in float64, and the factorisation that they are solved by."""

from collections.abc import Iterator

import numpy as np
import pytest

from cuvee.ops.blas import one_thread_a_matrix
from cuvee.ops.cholesky import factored
from cuvee.ops.fitted import fitted
from cuvee.ops.least_squares import fit_to_own_inputs, gram_and_goal, own_energy


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread_a_matrix():
        yield


SHAPES = {"tall": (640, 512), "square": (520, 520), "wide": (512, 700)}


def flat(out: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, out, size)).astype(np.float32) * np.float32(1e-3)


def decaying(out: int, size: int) -> np.ndarray:
    """Return task vectors whose strongest directions are 100 times as strong as the weakest, in a basis of no entry."""
    generator = np.random.default_rng(1)
    turned, _ = np.linalg.qr(generator.standard_normal((size, size)))
    scales = np.arange(1, size + 1) ** -0.75
    return ((flat(out, size) * scales) @ turned).astype(np.float32)


def nearly_of_low_rank(out: int, size: int) -> np.ndarray:
    """Return task vectors of rank 40 and a thousandth of noise: more than float32 can tell apart in a Gram matrix."""
    generator = np.random.default_rng(2)
    shared = generator.standard_normal((40, size))
    strong = generator.standard_normal((3, out, 40)) @ shared
    return (strong + 1e-3 * generator.standard_normal((3, out, size))).astype(np.float32)


KINDS = {"flat": flat, "decaying": decaying, "nearly of low rank": nearly_of_low_rank}


def by_definition(deltas: np.ndarray, factors: list[float]) -> np.ndarray:
    grams, goal = gram_and_goal(deltas, factors)
    return np.linalg.solve(grams, goal.T).T


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_large_fits_are_those_of_float64(kind: object, shape: tuple[int, int]) -> None:
    deltas = kind(*shape)
    factors = [weight / energy for weight, energy in zip((1.0, 0.5, 2.0), own_energy(deltas), strict=True)]
    wanted = by_definition(deltas, factors)
    found = fit_to_own_inputs(deltas, factors)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_float32_is_used_where_it_is_near_enough_and_only_there() -> None:
    shape = SHAPES["tall"]
    assert fitted(flat(*shape), [1.0, 1.0, 1.0]).dtype == np.float32
    assert fitted(decaying(*shape), [1.0, 1.0, 1.0]).dtype == np.float64
    assert fitted(nearly_of_low_rank(*shape), [1.0, 1.0, 1.0]).dtype == np.float64


def test_a_solution_in_float32_that_is_too_far_off_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuvee.ops.fitted._EVEN", np.inf)
    deltas = decaying(*SHAPES["tall"])
    assert fitted(deltas, [1.0, 1.0, 1.0]).dtype == np.float64


def test_systems_that_are_not_well_posed_are_left_to_their_eigenvalues() -> None:
    generator = np.random.default_rng(0)
    deltas = (generator.standard_normal((3, 600, 8)) @ generator.standard_normal((8, 512))).astype(np.float32)
    assert fitted(deltas, [1.0, 1.0, 1.0]) is None
    assert fitted(np.zeros_like(deltas), [1.0, 1.0, 1.0]) is None
    assert fitted(deltas, [0.0, 0.0, 0.0]) is None
    assert np.isfinite(fit_to_own_inputs(deltas, [1.0, 1.0, 1.0])).all()


def test_a_model_that_counts_for_nothing_changes_nothing() -> None:
    deltas = flat(*SHAPES["tall"])
    with_it, without = fitted(deltas, [1.0, 1.0, 0.0]), fitted(deltas[:2], [1.0, 1.0])
    np.testing.assert_allclose(with_it, without, rtol=0, atol=1e-5 * np.abs(without).max())


@pytest.mark.parametrize("size", [1, 255, 256, 600])
def test_the_blocked_factorisation_solves(size: int) -> None:
    generator = np.random.default_rng(0)
    half = generator.standard_normal((size, size + 50))
    matrix, right = half @ half.T, generator.standard_normal((7, size))
    factor = factored(matrix.copy())
    np.testing.assert_allclose(np.tril(factor.lower), np.linalg.cholesky(matrix), atol=1e-9 * size)
    np.testing.assert_allclose(factor.solve(right.copy()) @ matrix, right, atol=1e-6)


def test_a_matrix_with_a_negative_eigenvalue_has_no_factor() -> None:
    assert factored(np.diag([1.0, -1.0])) is None
