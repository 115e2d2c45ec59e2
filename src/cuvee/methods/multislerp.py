"""Multi-SLERP: the weighted mean direction with the weighted mean length (Goddard 2025).

mergekit describes it as an interpolation in the tangent space at the weighted mean. The weighted sum of tangent vectors
is zero there, so that the result is that mean itself; `karcher` is the true mean on the sphere. Two models with equal
weights give the same as slerp, with other weights they do not.
"""

from typing import Annotated, Any

import numpy as np

from cuvee.method import Gram, PerModel, coefficient_method
from cuvee.ops.arrays import Array
from cuvee.ops.stepwise import Run, Steps, Stepwise
from cuvee.recipe.setting import Range


def _in_steps(s: Steps, *, weight: Any, normalize_weights: bool, eps: float) -> Run:
    vectors = s.models if s.base is None else s.rounded(s.models - s.base)
    weights, least = s.rounded(weight)[:, None], s.rounded(eps)
    weights = s.rounded(weights / s.rounded(weights.sum())) if normalize_weights else weights
    lengths = s.rounded((yield from s.length(vectors)))
    units = s.rounded(vectors / s.rounded(lengths + least))
    mean = s.rounded(s.rounded(units * weights).sum(axis=0))
    length = s.rounded((yield from s.length(mean)))
    if length < eps:
        result = s.rounded(s.rounded(vectors * weights).sum(axis=0))
    else:
        mean = s.rounded(mean / length)
        # the weighted tangents at the mean add up to nothing but what was rounded
        toward = yield from s.dot(units, mean)
        tangent = s.rounded(s.rounded(s.rounded(units - s.rounded(toward * mean)) * weights).sum(axis=0))
        angle = s.rounded(s.rounded((yield from s.length(tangent))) + least)
        along, aside = s.rounded(np.cos(angle)), s.rounded(s.rounded(np.sin(angle)) / angle)
        result = s.rounded(s.rounded(mean * along) + s.rounded(tangent * aside))
        result = s.rounded(result * s.rounded(s.rounded(lengths * weights).sum()))
    return result if s.base is None else s.rounded(result + s.base)


@coefficient_method(
    "multislerp",
    paper="https://goddard.blog/posts/multislerp-wow-what-a-cool-idea",
    formula="m / ‖m‖ · Σ wᵢ ‖θᵢ‖,  m = Σ wᵢ θᵢ / ‖θᵢ‖",
    base="optional",
    stepwise=Stepwise(_in_steps, lambda settings: 4),
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
