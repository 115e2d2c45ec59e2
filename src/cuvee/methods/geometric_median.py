"""The point with the smallest sum of distances to the models, by Weiszfeld's algorithm.

Everything happens in the span of the models: with weights c (summing to one) the point is m = Σ cᵢ xᵢ, and
‖xⱼ − m‖² = Gⱼⱼ − 2 (Gc)ⱼ + cᵀGc with the Gram matrix G, so the tensors are read once for G and once for m. Two models
have every point between them as median; the (weighted) mean is returned.
"""

from typing import Annotated, Literal

import numpy as np

from cuvee.method import Gram, PerModel, coefficient_method
from cuvee.ops.arrays import Array
from cuvee.recipe.setting import Range

ROUNDS = 300
TOLERANCE = 1e-6
"""Relative to the step's own length, where the iteration stops."""


@coefficient_method(
    "geometric_median",
    paper="Weiszfeld 1937; LLM Merging Competition 2024",
    formula="argminₘ Σ wᵢ ‖τᵢ − m‖",
    base="optional",
)
def geometric_median(
    *,
    weight: Annotated[PerModel, Range(0)] = 1.0,
    scope: Literal["tensor", "model"] = "tensor",
    gram: Gram,
) -> Array:
    """Find the median of the task vectors (of the models, without a base), which outliers move little.

    `scope` says whether each tensor has a median of its own or one set of coefficients serves the whole model.
    """
    weights = np.asarray(weight, np.float64)
    if weights.sum() <= 0:
        raise ValueError("the weights sum to zero")
    mean = weights / weights.sum()
    return mean if np.count_nonzero(weights) <= 2 else _weiszfeld(gram, weights, mean)


def _weiszfeld(gram: np.ndarray, weights: np.ndarray, mean: np.ndarray) -> np.ndarray:
    scale = np.sqrt(gram.diagonal().max())
    point = mean
    for _ in range(ROUNDS):
        distances = np.sqrt(np.maximum(_squared_distances(gram, point), 0))
        pull = weights / np.maximum(distances, 1e-10 * scale + 1e-300)
        moved = pull / pull.sum()
        step = moved - point
        point = moved
        if np.sqrt(max(_quadratic(gram, step), 0)) <= TOLERANCE * np.sqrt(max(_quadratic(gram, point), 0)):
            break
    return point


def _squared_distances(gram: np.ndarray, point: np.ndarray) -> Array:
    return gram.diagonal() - 2 * _product(gram, point) + _quadratic(gram, point)


def _quadratic(gram: np.ndarray, point: np.ndarray) -> float:
    return float((point * _product(gram, point)).sum())


def _product(gram: np.ndarray, point: np.ndarray) -> Array:
    # not `@`: a BLAS may add in another order on another machine
    return (gram * point).sum(axis=1)
