"""Methods by least squares on models' own inputs, against numbers by hand and direct solutions."""

import numpy as np
import pytest

import cuvee
from cuvee.catalogue import modifiers, registry, weight_rules
from cuvee.engine.arrays import merge_by_definition
from cuvee.errors import RecipeError
from cuvee.ops.least_squares import fit_to_inputs

INPUTS = [
    np.array([[1, 0, 2, 1], [0, 1, 1, 0], [1, 1, 0, 1]], float),
    np.array([[2, 1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 1]], float),
    np.array([[0, 2, 1, 0], [1, 1, 1, 1], [0, 1, 0, 2]], float),
]
"""Of three models, three positions each, four channels."""


def grams(inputs: list[np.ndarray]) -> list[np.ndarray]:
    return [rows.T @ rows / len(rows) for rows in inputs]


def random(models: int = 3, out: int = 5, size: int = 7, rows: int = 40) -> tuple[np.ndarray, list[np.ndarray]]:
    draw = np.random.default_rng(0)
    return draw.standard_normal((models, out, size)), [draw.standard_normal((rows, size)) for _ in range(models)]


def test_regmean_is_pooled_least_squares() -> None:
    matrices, inputs = random()
    pooled = np.concatenate(inputs)
    answers = np.concatenate([rows @ matrix.T for rows, matrix in zip(inputs, matrices, strict=True)])
    wanted = np.linalg.lstsq(pooled, answers, rcond=None)[0].T
    found = registry()["regmean"].rule(matrices, off_diagonal=1.0, grams=grams(inputs))
    np.testing.assert_allclose(found, wanted, atol=1e-10)


@pytest.mark.parametrize("off_diagonal", [1.0, 0.9, 0.5, 0.0])
def test_regmean_solves_the_normal_equations(off_diagonal: float) -> None:
    matrices, inputs = random()
    shrunk = [off_diagonal * g + (1 - off_diagonal) * np.diag(np.diag(g)) for g in grams(inputs)]
    goal = sum(w * m @ g for w, m, g in zip((1, 2, 0.5), matrices, shrunk, strict=True))
    system = sum(w * g for w, g in zip((1, 2, 0.5), shrunk, strict=True))
    weights = np.array([1, 2, 0.5])
    found = registry()["regmean"].rule(matrices, weight=weights, off_diagonal=off_diagonal, grams=grams(inputs))
    np.testing.assert_allclose(found, goal @ np.linalg.inv(system), atol=1e-10)


def test_regmean_agrees_with_the_solver_of_repairs() -> None:
    torch = pytest.importorskip("torch")
    from cuvee.calibrate.solve import Moments, fit

    matrices, inputs = random()
    means = [torch.from_numpy(rows.mean(0)) for rows in inputs]
    own = [torch.from_numpy(gram) for gram in grams(inputs)]
    moments = [Moments(gram, gram, mean, mean) for gram, mean in zip(own, means, strict=True)]
    tensors = [torch.from_numpy(matrix) for matrix in matrices]
    anchor = torch.from_numpy(matrices.mean(0))
    wanted = fit(tensors, moments, anchor, ridge=0.0, off_diagonal=0.9, shares=[1.0, 1.0, 1.0]).weight
    np.testing.assert_allclose(fit_to_inputs(matrices, grams(inputs), [1, 1, 1], 0.9), wanted.numpy(), atol=1e-10)


def test_one_model_and_equal_models_stay_as_they_are() -> None:
    matrices, inputs = random()
    rule = registry()["regmean"].rule
    np.testing.assert_allclose(rule(matrices[:1], grams=grams(inputs[:1])), matrices[0], atol=1e-12)
    equal = np.stack([matrices[0]] * 3)
    np.testing.assert_allclose(rule(equal, grams=grams(inputs)), matrices[0], atol=1e-12)


def test_the_size_of_all_inputs_does_not_matter() -> None:
    matrices, inputs = random()
    rule = registry()["regmean"].rule
    larger = [1000 * rows for rows in inputs]
    np.testing.assert_allclose(rule(matrices, grams=grams(inputs)), rule(matrices, grams=grams(larger)), atol=1e-10)


def test_channels_without_input_stay_at_the_mean() -> None:
    matrices, inputs = random()
    for rows in inputs:
        rows[:, 2] = 0
    found = registry()["regmean"].rule(matrices, grams=grams(inputs))
    np.testing.assert_allclose(found[:, 2], matrices.mean(0)[:, 2], atol=1e-12)
    no_inputs = [np.zeros((7, 7))] * 3
    np.testing.assert_allclose(registry()["regmean"].rule(matrices, grams=no_inputs), matrices.mean(0), atol=1e-12)


def test_a_base_only_serves_to_have_a_change_from_it() -> None:
    matrices, inputs = random()
    base = np.random.default_rng(1).standard_normal((5, 7))
    with_base = merge_by_definition("regmean", matrices, base=base, grams=grams(inputs))
    np.testing.assert_allclose(with_base, merge_by_definition("regmean", matrices, grams=grams(inputs)), atol=1e-10)


def test_tensors_are_merged_with_matrices_that_are_given() -> None:
    matrices, inputs = random()
    merged = cuvee.merge_tensors("regmean", list(matrices), grams=grams(inputs))
    np.testing.assert_allclose(merged, registry()["regmean"].rule(matrices, grams=grams(inputs)), atol=1e-10)
    with pytest.raises(RecipeError, match="'regmean' needs 'grams'"):
        cuvee.merge_tensors("regmean", list(matrices))


def test_esm_keeps_what_one_model_does_to_its_own_inputs() -> None:
    matrices, inputs = random(models=1, out=4, size=6)
    (delta,), (gram,) = matrices, grams(inputs)
    values, vectors = np.linalg.eigh(delta @ gram @ delta.T)
    factors = (values / values.mean()) ** 0.15
    factors /= factors.mean()
    left, right = vectors * factors, (vectors * factors).T @ delta

    def even(matrix: np.ndarray) -> np.ndarray:
        u, s, vh = np.linalg.svd(matrix, full_matrices=False)
        return s.mean() * u @ vh

    found = registry()["esm"].rule(matrices, grams=[gram])
    np.testing.assert_allclose(found, even(left) @ even(right), atol=1e-9)


def test_esm_of_models_that_change_nothing_is_nothing() -> None:
    _, inputs = random()
    np.testing.assert_array_equal(registry()["esm"].rule(np.zeros((3, 5, 7)), grams=grams(inputs)), np.zeros((5, 7)))


def test_aim_shrinks_active_channels() -> None:
    merged = np.ones((2, 4))
    activity = np.array([4.0, 2.0, 1.0, 0.0])
    rule = modifiers()["aim"].rule
    np.testing.assert_allclose(rule(merged, None, omega=0.4, activity=activity)[0], [0.4, 0.7, 0.85, 1.0])
    np.testing.assert_allclose(rule(merged, None, omega=1.0, activity=activity), merged)
    ranked = rule(merged, None, omega=0.0, scale="rank", activity=activity)[0]
    np.testing.assert_allclose(ranked, [0, 0.25, 0.5, 0.75])
    np.testing.assert_array_equal(rule(merged, None, activity=np.zeros(4)), merged)


def test_aim_by_logarithm_leaves_something_to_others_than_one_outlier() -> None:
    activity = np.array([1000.0, 1.0, 1.0, 1.0])
    plain, grown = (
        modifiers()["aim"].rule(np.ones((1, 4)), None, omega=0.0, scale=scale, activity=activity)[0]
        for scale in ("max", "log")
    )
    assert plain[1] > 0.998
    assert grown[0] == pytest.approx(0)
    assert grown[1] < plain[1]


def test_weights_follow_losses() -> None:
    found = weight_rules()["loss"].rule([1.0, 2.0, 2.0], temperature=0.5)
    wanted = np.exp([0, -2, -2]) / np.exp([0, -2, -2]).sum()
    np.testing.assert_allclose(found, wanted)
    assert weight_rules()["loss"].rule([0.0, 1e9]) == [1.0, 0.0]


DELTAS = np.array(
    [
        [0.40, -0.11, 0.02, 0.31, -0.22, 0.53, 0.13, 0.01, 0.05, -0.17, 0.27, -0.09],
        [-0.21, -0.33, 0.61, 0.12, 0.19, 0.43, 0.03, -0.14, 0.08, 0.29, -0.25, 0.06],
        [0.10, 0.23, 0.51, -0.41, -0.34, 0.15, 0.20, 0.73, -0.07, 0.28, -0.04, 0.18],
    ]
).reshape(3, 3, 4)
GOLDEN = {
    1.0: [-0.1689, 0.0347, 0.5011, -0.0253, -0.0032, 0.5057, -0.1812, 0.3317, 0.06, 0.17, 0.08, 0.07],
    0.5: [-0.0635, 0.0878, 0.3388, -0.0779, 0.0115, 0.3361, 0.0131, 0.3454, 0.0502, 0.1707, 0.1033, 0.0785],
    0.0: [-0.0187, 0.0922, 0.2162, -0.1322, 0.0212, 0.2656, 0.135, 0.3767, 0.0538, 0.1811, 0.1275, 0.0933],
}
"""Of the deltas and INPUTS here, solved independently in float64. The last row at 1.0 is written with two digits."""


@pytest.mark.parametrize("off_diagonal", GOLDEN)
def test_regmean_gives_numbers_that_were_solved_independently(off_diagonal: float) -> None:
    found = registry()["regmean"].rule(DELTAS, off_diagonal=off_diagonal, grams=grams(INPUTS))
    np.testing.assert_allclose(found.reshape(-1), GOLDEN[off_diagonal], atol=1e-4)
