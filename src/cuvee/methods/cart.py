"""CART (Choi et al. 2024): the average, and the strongest directions in which each model differs from it."""

from math import ceil
from typing import Annotated

from cuvee.method import UNIT, PerModel, matrix_method
from cuvee.ops.arrays import Array
from cuvee.ops.matrices import in_double, numbers, smaller_side, weighted_total
from cuvee.ops.spectrum import low_rank
from cuvee.ops.work import Work, spectrum_work


def _work(models: int, out: int, size: int) -> Work:
    each = spectrum_work(out, size, min(out, size) // 2)
    return Work(
        each.operations * models, each.decompositions * models, 6 * out * size + 7 * min(out, size) ** 2
    )  # fmt: skip


@matrix_method("cart", paper="arXiv:2412.12153", formula="θ₀ + λ·(τ̄ + Σ wᵢ·lowrank(τᵢ − τ̄))", work=_work)
def cart(
    deltas: Array,
    *,
    weight: PerModel = 1.0,
    fraction: Annotated[float, UNIT] = 0.08,
    full_rank: int | None = None,
) -> Array:
    """Take the mean of the task vectors and add the most special directions of each model, at low rank.

    `fraction` of the directions of each difference from the mean are kept; 0 gives the mean alone.
    """
    models, kept = deltas.shape[0], ceil(fraction * smaller_side(deltas, full_rank))
    mean = weighted_total(deltas, 1.0) / models
    total = mean
    for i, number in enumerate(numbers(weight, models)):
        total = total + number * low_rank(in_double(deltas[i, ...]) - mean, kept)
    return total
