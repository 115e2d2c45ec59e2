"""DARE with the sign election of TIES: random instead of magnitude trimming (Yu et al. 2024, Yadav et al. 2023)."""

from typing import Annotated

from cuvee.method import UNIT, PerModel, element_method
from cuvee.ops.arrays import Array
from cuvee.ops.sparsify import keep_at_random, rescaling
from cuvee.ops.task_vectors import elected_sum, sparse


@element_method(
    "dare_ties",
    paper="arXiv:2311.03099",
    formula="θ₀ + λ Σ mᵢ wᵢ sᵢ (bᵢ ⊙ τᵢ),  mᵢ = agreement with the elected sign",
    staged=True,
)
def dare_ties(
    deltas: Array,
    *,
    weight: PerModel,
    density: Annotated[PerModel, UNIT] = 1.0,
    normalize: bool = False,
    rescale: bool = True,
    semantics: str,
    keep: Annotated[Array, keep_at_random],
    scale: Annotated[Array, rescaling],
) -> Array:
    """Thin the task vectors at random, elect a sign for each entry, sum those that agree."""
    return elected_sum(sparse(deltas, keep, scale), weight, normalize=normalize)
