"""TIES: trim, elect sign, disjoint merge (Yadav et al. 2023).

mergekit differs from the paper: it trims each tensor instead of the whole model, lets the weights vote, and takes +
where the vote is even instead of the majority's sign. `semantics` chooses.
"""

from typing import Annotated

from cuvee.method import UNIT, PerModel, element_method
from cuvee.ops.arrays import Array
from cuvee.ops.sparsify import keep_largest, majority_sign, rescaling
from cuvee.ops.task_vectors import elected_sum, sparse


@element_method(
    "ties",
    paper="arXiv:2306.01708",
    formula="θ₀ + λ Σ mᵢ wᵢ τ̂ᵢ / Σ mᵢ |wᵢ|,  mᵢ = [sign τ̂ᵢ wᵢ = sign Σ wⱼ τ̂ⱼ]",
    staged=True,
)
def ties(
    deltas: Array,
    *,
    weight: PerModel,
    density: Annotated[PerModel, UNIT] = 1.0,
    normalize: bool = True,
    rescale: bool = False,
    semantics: str,
    keep: Annotated[Array, keep_largest],
    scale: Annotated[Array, rescaling],
    when_even: Annotated[Array, majority_sign],
) -> Array:
    """Keep the largest entries of each task vector, elect a sign for each entry, average those that agree.

    `density` is the share that is kept; the paper uses 0.2. With `normalize` false the agreeing entries are summed.
    """
    trimmed = sparse(deltas, keep, scale)
    weights_vote = semantics != "paper"
    return elected_sum(trimmed, weight, normalize=normalize, weights_vote=weights_vote, when_even=when_even)
