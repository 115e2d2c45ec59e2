"""The solver against definitions written out plainly: sums over positions, inverses, pooled least squares."""

from dataclasses import asdict

import pytest
import torch

from cuvee.calibrate.solve import GramEquations, Moments, MomentSum, Norm, Residuals, RowEquations, Rows, fit, share_of

OUT, SIZE, EXPERTS = 5, 7, 3
CPU = torch.device("cpu")


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments_of(inputs: torch.Tensor, targets: torch.Tensor | None = None) -> Moments:
    total = MomentSum(inputs.shape[1], mixed=targets is not None, residuals=True, device=CPU)
    total.add(inputs, inputs if targets is None else targets)
    return total.moments()


@pytest.fixture
def inputs() -> list[torch.Tensor]:
    return [numbers(40 + 10 * expert, SIZE, seed=expert) for expert in range(EXPERTS)]


@pytest.fixture
def matrices() -> list[torch.Tensor]:
    return [numbers(OUT, SIZE, seed=100 + expert) for expert in range(EXPERTS)]


def test_without_ridge_it_is_least_squares_over_all_positions_pooled(
    inputs: list[torch.Tensor], matrices: list[torch.Tensor]
) -> None:
    moments = [moments_of(own) for own in inputs]
    counts = [float(len(own)) for own in inputs]
    found = fit(matrices, moments, torch.zeros(OUT, SIZE), ridge=0.0, shares=counts)
    wanted = torch.cat([own @ matrix.T for own, matrix in zip(inputs, matrices, strict=True)])
    pooled = torch.linalg.lstsq(torch.cat(inputs), wanted).solution.T
    torch.testing.assert_close(found.weight, pooled, rtol=0, atol=1e-10)


@pytest.mark.parametrize("off_diagonal", [1.0, 0.9, 0.0])
def test_one_expert_is_unchanged(inputs: list[torch.Tensor], matrices: list[torch.Tensor], off_diagonal: float) -> None:
    found = fit(
        matrices[:1], [moments_of(inputs[0])], numbers(OUT, SIZE), ridge=0.0, off_diagonal=off_diagonal, shares=[1.0]
    )
    torch.testing.assert_close(found.weight, matrices[0], rtol=0, atol=1e-10)


def test_equal_experts_are_unchanged_with_any_inputs(inputs: list[torch.Tensor], matrices: list[torch.Tensor]) -> None:
    same = [matrices[0]] * EXPERTS
    found = fit(same, [moments_of(own) for own in inputs], numbers(OUT, SIZE), ridge=0.0, shares=[1.0] * EXPERTS)
    torch.testing.assert_close(found.weight, matrices[0], rtol=0, atol=1e-10)


def test_a_large_ridge_gives_the_anchor(inputs: list[torch.Tensor], matrices: list[torch.Tensor]) -> None:
    anchor = numbers(OUT, SIZE, seed=9)
    moments = [moments_of(own) for own in inputs]
    found = fit(matrices, moments, anchor, ridge=1e12, shares=[1.0] * EXPERTS)
    torch.testing.assert_close(found.weight, anchor, rtol=0, atol=1e-9)


def test_it_is_the_formula_of_featcal(inputs: list[torch.Tensor], matrices: list[torch.Tensor]) -> None:
    """(Σ s·W·K + ridge·A)(Σ s·C + ridge·I)⁻¹, position by position."""
    ridge, anchor = 0.05, numbers(OUT, SIZE, seed=9)
    targets = [own + 0.1 * numbers(*own.shape, seed=50) for own in inputs]
    moments = [moments_of(own, target) for own, target in zip(inputs, targets, strict=True)]
    shares = [share_of(own, "frobenius") for own in moments]
    left, right = ridge * anchor, ridge * torch.eye(SIZE, dtype=torch.float64)
    for own, target, matrix in zip(inputs, targets, matrices, strict=True):
        gram = sum(torch.outer(row, row) for row in own) / len(own)
        cross = sum(torch.outer(want, row) for row, want in zip(own, target, strict=True)) / len(own)
        share = 1 / torch.sqrt((gram**2).sum())
        left, right = left + share * matrix @ cross, right + share * gram
    found = fit(matrices, moments, anchor, ridge=ridge, shares=shares)
    torch.testing.assert_close(found.weight, left @ torch.linalg.inv(right), rtol=0, atol=1e-9)


def test_positions_themselves_give_the_same_as_their_gram_matrices(matrices: list[torch.Tensor]) -> None:
    few = [numbers(2, SIZE, seed=expert) for expert in range(EXPERTS)]
    targets = [own + 0.1 * numbers(*own.shape, seed=50) for own in few]
    anchor, shares = numbers(OUT, SIZE, seed=9), [0.5, 1.0, 2.0]
    equations = RowEquations(anchor, ridge=0.01)
    for matrix, own, target, share in zip(matrices, few, targets, shares, strict=True):
        equations.add(matrix, Rows(own, target), share)
    by_rows = equations.solve()
    moments = [moments_of(own, target) for own, target in zip(few, targets, strict=True)]
    by_grams = fit(matrices, moments, anchor, ridge=0.01, shares=shares)
    torch.testing.assert_close(by_rows.weight, by_grams.weight, rtol=0, atol=1e-8)
    assert torch.linalg.matrix_rank(by_rows.weight - anchor) <= sum(map(len, few))


def test_the_scale_of_inputs_does_not_matter_without_ridge(
    inputs: list[torch.Tensor], matrices: list[torch.Tensor]
) -> None:
    found = []
    for scale in (1.0, 1000.0):
        moments = [moments_of(scale * own) for own in inputs]
        shares = [share_of(own, "frobenius") for own in moments]
        found.append(fit(matrices, moments, torch.zeros(OUT, SIZE), ridge=0.0, shares=shares).weight)
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_inputs_that_are_always_zero_keep_the_anchors_column(
    inputs: list[torch.Tensor], matrices: list[torch.Tensor], ridge: float
) -> None:
    for own in inputs:
        own[:, 3] = 0
    anchor = numbers(OUT, SIZE, seed=9)
    found = fit(matrices, [moments_of(own) for own in inputs], anchor, ridge=ridge, shares=[1.0] * EXPERTS)
    torch.testing.assert_close(found.weight[:, 3], anchor[:, 3], rtol=0, atol=1e-9)


def test_a_bias_makes_mean_outputs_those_of_the_expert(
    inputs: list[torch.Tensor], matrices: list[torch.Tensor]
) -> None:
    shifted, bias = inputs[0] + 3.0, numbers(OUT, seed=4)
    equations = GramEquations(numbers(OUT, SIZE, seed=9), ridge=0.5)
    own = moments_of(shifted)
    equations.add(matrices[0], own, 1e6, bias)
    found = equations.solve()
    solved = equations.bias(found.weight, torch.zeros(OUT))
    wanted = (shifted @ matrices[0].T + bias).mean(0)
    torch.testing.assert_close((shifted @ found.weight.T + solved).mean(0), wanted, rtol=1e-5, atol=1e-5)


def test_residuals_are_distances_of_outputs(inputs: list[torch.Tensor], matrices: list[torch.Tensor]) -> None:
    weight = numbers(OUT, SIZE, seed=9)
    targets = [own + 0.1 * numbers(*own.shape, seed=50) for own in inputs]
    residuals = Residuals(OUT, SIZE, CPU)
    plain = []
    for own, target, matrix in zip(inputs, targets, matrices, strict=True):
        residuals.add(matrix, moments_of(own, target))
        apart = own @ weight.T - target @ matrix.T
        plain.append(float((apart**2).sum() / ((target @ matrix.T) ** 2).sum()))
    assert residuals.of(weight) == pytest.approx(sum(plain) / EXPERTS)


def test_sums_do_not_depend_on_how_positions_are_put_in_batches(inputs: list[torch.Tensor]) -> None:
    whole, parts = (MomentSum(SIZE, mixed=True, residuals=True, device=CPU) for _ in range(2))
    whole.add(inputs[0], 2 * inputs[0])
    for row in inputs[0]:
        parts.add(row[None], 2 * row[None])
    torch.testing.assert_close(asdict(whole.moments()), asdict(parts.moments()))


@pytest.mark.parametrize("norm", ["frobenius", "trace", "none"])
def test_a_text_counts_alike_by_its_positions_and_by_its_moments(norm: Norm) -> None:
    few = numbers(3, SIZE)
    assert share_of(Rows(few, few), norm) == pytest.approx(share_of(moments_of(few), norm))
