"""Model Breadcrumbs: leave out the largest and the smallest changes (Davari & Belilovsky 2024), then add up.

mergekit takes the shares of each tensor, the paper of each row. `semantics` chooses. (mergekit before 0.1.5 lost every
tensor of fewer than 1 / gamma entries.)
"""

from typing import Annotated

from cuvee.method import UNIT, PerModel, element_method
from cuvee.ops.arrays import Array
from cuvee.ops.by_rank import keep_middle
from cuvee.ops.sparsify import rescaling
from cuvee.ops.task_vectors import sparse, weighted_sum


@element_method(
    "breadcrumbs",
    paper="arXiv:2312.06795",
    formula="θ₀ + λ Σ wᵢ (mᵢ ⊙ τᵢ),  mᵢ = 0 for both tails of |τᵢ|",
    staged=True,
)
def breadcrumbs(
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
    """Sum the task vectors without their outliers and their small entries.

    `gamma` is the share of largest entries left out, `density` the share kept below them. The paper keeps 0.05 to 0.2
    with gamma 0.001 to 0.01 and λ 0.2 to 0.4.
    """
    return weighted_sum(sparse(deltas, keep, scale), weight, normalize=normalize)
