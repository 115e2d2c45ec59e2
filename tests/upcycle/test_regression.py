"""Routers by weighted least squares: the normal equations hold, one router comes back, what nobody asks for stays."""

import numpy as np
import pytest

from cuvee.upcycle.regression import Wanted, fit_router, softmax, wanted_of_router

EXPERTS, WIDTH = 4, 6


def draws(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def centred(router: np.ndarray) -> np.ndarray:
    """Leave out what is the same in all rows, which changes no choice."""
    return router - router.mean(axis=0)


def test_the_solution_satisfies_the_normal_equations_written_out() -> None:
    routers, inputs = [draws(1, EXPERTS, WIDTH), draws(2, EXPERTS, WIDTH)], [draws(3, 50, WIDTH), draws(4, 70, WIDTH)]
    texts = [wanted_of_router(router, own) for router, own in zip(routers, inputs, strict=True)]
    fit = fit_router((routers[0] + routers[1]) / 2, texts)

    left, right = np.zeros((EXPERTS, WIDTH)), np.zeros((EXPERTS, WIDTH))
    for router, own in zip(routers, inputs, strict=True):
        for x in own:
            p = np.exp(router @ x) / np.exp(router @ x).sum()
            curvature = np.diag(p) - np.outer(p, p)
            left += curvature @ (fit.weight @ x)[:, None] @ x[None] / len(own)
            right += curvature @ (router @ x)[:, None] @ x[None] / len(own)
    assert np.linalg.norm(left - right) <= 1e-6 * np.linalg.norm(right)
    assert fit.residual <= 1e-6


def test_it_is_the_solution_of_the_whole_matrix() -> None:
    texts = [wanted_of_router(draws(seed, EXPERTS, WIDTH), draws(seed + 9, 60, WIDTH)) for seed in (1, 2)]
    matrix, right = np.zeros((EXPERTS * WIDTH,) * 2), np.zeros(EXPERTS * WIDTH)
    for text in texts:
        for x, p, z in zip(text.inputs, text.probabilities, text.logits, strict=True):
            curvature = np.diag(p) - np.outer(p, p)
            matrix += np.kron(curvature, np.outer(x, x)) / 60
            right += np.kron(curvature @ z, x) / 60
    whole = np.linalg.lstsq(matrix, right, rcond=1e-10)[0].reshape(EXPERTS, WIDTH)
    own = fit_router(np.zeros((EXPERTS, WIDTH)), texts).weight
    np.testing.assert_allclose(own, whole, atol=1e-5)


def test_one_models_router_is_unchanged() -> None:
    router = draws(1, EXPERTS, WIDTH)
    fit = fit_router(router, [wanted_of_router(router, draws(2, 40, WIDTH))])
    np.testing.assert_array_equal(fit.weight, router)
    assert fit.steps == 0


def test_one_models_choices_come_back_from_another_start() -> None:
    router = draws(1, EXPERTS, WIDTH)
    fit = fit_router(draws(3, EXPERTS, WIDTH), [wanted_of_router(router, draws(2, 200, WIDTH))])
    np.testing.assert_allclose(centred(fit.weight), centred(router), atol=1e-4)


def test_directions_that_no_text_shows_stay_as_they_were() -> None:
    start, inputs = draws(1, EXPERTS, WIDTH), draws(2, 40, WIDTH)
    inputs[:, -2:] = 0
    fit = fit_router(start, [wanted_of_router(draws(3, EXPERTS, WIDTH), inputs)])
    np.testing.assert_array_equal(fit.weight[:, -2:], start[:, -2:])


def test_a_large_ridge_holds_the_start() -> None:
    start, text = draws(1, EXPERTS, WIDTH), wanted_of_router(draws(3, EXPERTS, WIDTH), draws(2, 40, WIDTH))
    np.testing.assert_allclose(fit_router(start, [text], ridge=1e9).weight, start, atol=1e-6)


def test_a_text_of_no_weight_changes_nothing() -> None:
    router, other = draws(1, EXPERTS, WIDTH), draws(3, EXPERTS, WIDTH)
    texts = [wanted_of_router(router, draws(2, 40, WIDTH)), wanted_of_router(other, draws(4, 40, WIDTH), weight=0.0)]
    np.testing.assert_array_equal(fit_router(router, texts).weight, router)


def test_planted_texts_reach_their_expert() -> None:
    inputs = [draws(seed, 100, WIDTH) + 3 * np.eye(EXPERTS, WIDTH)[seed] for seed in range(EXPERTS)]
    even = np.full((100, EXPERTS), 1 / EXPERTS)
    texts = [Wanted(own, np.tile(np.eye(EXPERTS)[number], (100, 1)), even) for number, own in enumerate(inputs)]
    router = fit_router(np.zeros((EXPERTS, WIDTH)), texts).weight
    chosen = [(own @ router.T).argmax(axis=1) == number for number, own in enumerate(inputs)]
    assert np.mean(chosen) >= 0.9


def test_probabilities_of_huge_logits_are_finite() -> None:
    assert softmax(np.array([1e4, 0.0])) == pytest.approx([1.0, 0.0])
