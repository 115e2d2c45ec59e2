"""Model Breadcrumbs with the sign election of TIES (mergekit)."""

from typing import Annotated

from cuvee.method import UNIT, PerModel, element_method
from cuvee.ops.arrays import Array
from cuvee.ops.by_rank import keep_middle
from cuvee.ops.sparsify import rescaling
from cuvee.ops.task_vectors import elected_sum, sparse


@element_method(
    "breadcrumbs_ties",
    paper="arXiv:2312.06795",
    formula="θ₀ + λ Σ aᵢ wᵢ (mᵢ ⊙ τᵢ),  mᵢ = 0 for both tails of |τᵢ|, aᵢ = agreement with the elected sign",
    staged=True,
)
def breadcrumbs_ties(
    deltas: Array,
    *,
    weight: PerModel,
    density: Annotated[PerModel, UNIT] = 1.0,
    gamma: Annotated[PerModel, UNIT] = 0.01,
    normalize: bool = False,
    rescale: bool = False,
    semantics: str,
    keep: Annotated[Array, keep_middle],
    scale: Annotated[Array, rescaling],
) -> Array:
    """Leave out outliers and small entries, elect a sign for each entry, sum those that agree."""
    return elected_sum(sparse(deltas, keep, scale), weight, normalize=normalize)
