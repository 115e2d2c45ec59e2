"""EMR: elect a sign for each entry, keep the largest magnitude that agrees (Huang et al. 2024).

This is the unified model. A merge to a folder also writes each model's mask and scale (`cuvee.engine.masks`), from
which `cuvee.rebuild` makes the model again.
"""

from cuvee.method import element_method
from cuvee.ops.arrays import Array, array_namespace, sum_models


def same_sign(delta: Array, change: Array) -> Array:
    """Return EMR's mask Mᵢ of a model (section 3.2): where its change and the unified change have the same sign."""
    return ((delta > 0) & (change > 0)) | ((delta < 0) & (change < 0))


@element_method(
    "emr",
    paper="arXiv:2405.17461",
    formula="θ₀ + λ s ⊙ maxᵢ [sign τᵢ = s] |τᵢ|,  s = sign Σ τᵢ",
    masks=same_sign,
)
def emr(deltas: Array) -> Array:
    """Take for each entry the largest change whose sign is that of the sum of all; minus where the sum is zero."""
    xp = array_namespace(deltas)
    total = sum_models(deltas)
    sign = xp.where(total > 0, xp.ones_like(total), -xp.ones_like(total))
    largest = xp.max(deltas * sign, axis=0)
    return sign * xp.where(largest > 0, largest, xp.zeros_like(largest))
