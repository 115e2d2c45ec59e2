"""The solver against FeatCal's formula (arXiv:2605.13030), written out with loops over positions."""

from typing import ClassVar

import numpy as np
import pytest
import torch

from cuvee.calibrate.solve import GramEquations, MomentSum, share_of

OUT, WIDTH = 5, 4
COUNTS = (30, 50, 17)


def draws(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


class Example:
    """Three experts: matrices, biases, what the merged model sees, what the expert sees; base and merge."""

    matrices: ClassVar = [draws(seed, OUT, WIDTH) for seed in (1, 2, 3)]
    biases: ClassVar = [draws(seed, OUT) for seed in (4, 5, 6)]
    merged_inputs: ClassVar = [(1 + seed) * draws(10 + seed, count, WIDTH) for seed, count in enumerate(COUNTS)]
    own_inputs: ClassVar = [inputs + 0.3 * draws(20 + seed, *inputs.shape) for seed, inputs in enumerate(merged_inputs)]
    base, merge = draws(30, OUT, WIDTH), draws(31, OUT, WIDTH)
    base_bias, merge_bias = draws(32, OUT), draws(33, OUT)


def published(mix: float, ridge: float, push: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and bias: each sum is over positions, one after the other."""
    anchor = Example.base + push * (Example.merge - Example.base)
    anchor_bias = Example.base_bias + push * (Example.merge_bias - Example.base_bias)
    left, right = ridge * anchor, ridge * np.eye(WIDTH)
    shares, wanted_means, seen_means = [], [], []
    for matrix, seen, own in zip(Example.matrices, Example.merged_inputs, Example.own_inputs, strict=True):
        gram, cross = np.zeros((WIDTH, WIDTH)), np.zeros((WIDTH, WIDTH))
        wanted_mean, seen_mean = np.zeros(WIDTH), np.zeros(WIDTH)
        for x, e in zip(seen, own, strict=True):
            y = mix * e + (1 - mix) * x
            gram += np.outer(x, x) / len(seen)
            cross += np.outer(y, x) / len(seen)
            wanted_mean += y / len(seen)
            seen_mean += x / len(seen)
        share = 1 / np.sqrt((gram**2).sum())
        left = left + share * matrix @ cross
        right = right + share * gram
        shares.append(share)
        wanted_means.append(wanted_mean)
        seen_means.append(seen_mean)
    weight = left @ np.linalg.inv(right)
    bias = ridge * anchor_bias
    for share, matrix, own_bias, wanted_mean, seen_mean in zip(
        shares, Example.matrices, Example.biases, wanted_means, seen_means, strict=True
    ):
        bias = bias + share * (own_bias + matrix @ wanted_mean - weight @ seen_mean)
    return weight, bias / (sum(shares) + ridge)


def ours(mix: float, ridge: float, push: float) -> tuple[np.ndarray, np.ndarray]:
    anchor = torch.lerp(torch.from_numpy(Example.base), torch.from_numpy(Example.merge), push)
    anchor_bias = torch.lerp(torch.from_numpy(Example.base_bias), torch.from_numpy(Example.merge_bias), push)
    equations = GramEquations(anchor, ridge=ridge)
    for matrix, bias, seen, own in zip(
        Example.matrices, Example.biases, Example.merged_inputs, Example.own_inputs, strict=True
    ):
        total = MomentSum(WIDTH, mixed=mix > 0, residuals=False, device=torch.device("cpu"))
        inputs = torch.from_numpy(seen)
        total.add(inputs, torch.lerp(inputs, torch.from_numpy(own), mix))
        moments = total.moments()
        share = share_of(moments, "frobenius")
        equations.add(torch.from_numpy(matrix), moments, share, torch.from_numpy(bias))
    weight = equations.solve().weight
    return weight.numpy(), equations.bias(weight, anchor_bias).numpy()


@pytest.mark.parametrize("push", [1.0, 2.2])
@pytest.mark.parametrize("ridge", [3e-4, 0.05])
@pytest.mark.parametrize("mix", [0.0, 0.3, 1.0])
def test_weight_and_bias_are_those_of_the_published_formula(mix: float, ridge: float, push: float) -> None:
    for own, expected in zip(ours(mix, ridge, push), published(mix, ridge, push), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-9, atol=1e-10)
