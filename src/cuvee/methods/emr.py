"""EMR: elect a sign for each entry, keep the largest magnitude that agrees (Huang et al. 2024).

This is the unified model. A merge to a folder also writes each model's mask and scale (`cuvee.engine.emr_masks`), from
which `cuvee.rebuild` makes the model again.
"""

from cuvee.method import element_method
from cuvee.ops.arrays import Array, array_namespace, sum_models


@element_method("emr", paper="arXiv:2405.17461", formula="θ₀ + λ s ⊙ maxᵢ [sign τᵢ = s] |τᵢ|,  s = sign Σ τᵢ")
def emr(deltas: Array) -> Array:
    """Take for each entry the largest change whose sign is that of the sum of all; minus where the sum is zero."""
    xp = array_namespace(deltas)
    total = sum_models(deltas)
    sign = xp.where(total > 0, xp.ones_like(total), -xp.ones_like(total))
    largest = xp.max(deltas * sign, axis=0)
    return sign * xp.where(largest > 0, largest, xp.zeros_like(largest))
