"""DELLA with the sign election of TIES, as in the paper (Deep et al. 2024). See `della_linear` for the differences."""

from typing import Annotated

from cuvee.method import UNIT, PerModel, element_method
from cuvee.ops.arrays import Array
from cuvee.ops.by_rank import keep_by_rank, rescaling_by_rank
from cuvee.ops.task_vectors import elected_sum, sparse


@element_method(
    "della",
    paper="arXiv:2406.11617",
    formula="θ₀ + λ Σ mᵢ wᵢ sᵢ (bᵢ ⊙ τᵢ) / Σ mᵢ |wᵢ|,  bᵢ ~ Bernoulli(density ± epsilon, by rank in the row)",
    staged=True,
)
def della(
    deltas: Array,
    *,
    weight: PerModel,
    density: Annotated[PerModel, UNIT] = 1.0,
    epsilon: Annotated[PerModel, UNIT] = 0.15,
    normalize: bool = True,
    rescale: bool = True,
    semantics: str,
    keep: Annotated[Array, keep_by_rank],
    scale: Annotated[Array, rescaling_by_rank],
) -> Array:
    """Thin the task vectors at random, small entries more, elect a sign for each entry, average those that agree."""
    thinned = sparse(deltas, keep, scale)
    return elected_sum(thinned, weight, normalize=normalize, weights_vote=semantics != "paper")
