"""Multi-SLERP: the weighted mean direction with the weighted mean length (Goddard 2025).

mergekit describes it as an interpolation in the tangent space at the weighted mean. The weighted sum of tangent vectors
is zero there, so that the result is that mean itself; `karcher` is the true mean on the sphere. Two models with equal
weights give the same as slerp, with other weights they do not.
"""

from typing import Annotated

import numpy as np

from cuvee.method import Gram, PerModel, coefficient_method
from cuvee.ops.arrays import Array
from cuvee.recipe.setting import Range


@coefficient_method(
    "multislerp",
    paper="https://goddard.blog/posts/multislerp-wow-what-a-cool-idea",
    formula="m / ‖m‖ · Σ wᵢ ‖θᵢ‖,  m = Σ wᵢ θᵢ / ‖θᵢ‖",
    base="optional",
)
def multislerp(
    *,
    weight: PerModel,
    normalize_weights: bool = True,
    eps: Annotated[float, Range(0)] = 1e-8,
    gram: Gram,
) -> Array:
    """Average the directions of the models (of the task vectors, with a base), and their lengths.

    Directions that cancel out, to less than `eps`, give the weighted sum; mergekit refuses that for more than two.
    """
    weights = np.asarray(weight, np.float64)
    if normalize_weights and abs(weights.sum()) < 1e-12:
        raise ValueError(f"the weights {weights.tolist()} sum to zero and cannot be normalised")
    weights = weights / weights.sum() if normalize_weights else weights
    lengths = np.sqrt(gram.diagonal())
    direction = weights / (lengths + eps)
    # not `@`: a BLAS may add in another order on another machine
    length = np.sqrt(max((direction * (gram * direction).sum(axis=1)).sum(), 0.0))
    return weights if length < eps else direction / length * (weights * lengths).sum()
