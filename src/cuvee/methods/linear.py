"""Weighted average of models, also called a model soup (Wortsman et al. 2022)."""

import numpy as np

from cuvee.method import PerModel, coefficient_method
from cuvee.ops.arrays import Array


@coefficient_method("linear", paper="arXiv:2203.05482", formula="Σ wᵢ θᵢ / Σ wᵢ")
def linear(*, weight: PerModel, normalize: bool = True) -> Array:
    """Average the models by their weights.

    `weight` is relative unless `normalize` is false. Raises ValueError if the weights to be normalised sum to zero.
    """
    weights = np.asarray(weight, np.float64)
    if not normalize:
        return weights
    total = weights.sum()
    if abs(total) < 1e-12:
        raise ValueError(f"the weights {weights.tolist()} sum to zero and cannot be normalised")
    return weights / total
