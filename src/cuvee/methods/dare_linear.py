"""DARE: drop entries at random and rescale (Yu et al. 2024), then add up.

mergekit rescales so that each tensor keeps its sum of magnitudes, the paper by 1 / density. `semantics` chooses.
"""

from typing import Annotated

from cuvee.method import UNIT, PerModel, element_method
from cuvee.ops.arrays import Array
from cuvee.ops.sparsify import keep_at_random, rescaling
from cuvee.ops.task_vectors import sparse, weighted_sum


@element_method(
    "dare_linear",
    paper="arXiv:2311.03099",
    formula="θ₀ + λ Σ wᵢ sᵢ (bᵢ ⊙ τᵢ),  bᵢ ~ Bernoulli(density)",
    staged=True,
)
def dare_linear(
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
    """Sum randomly thinned task vectors, which the rescaling keeps at their size.

    `density` is the probability of staying; the draws depend on the seed, the model, the tensor and the position only.
    """
    return weighted_sum(sparse(deltas, keep, scale), weight, normalize=normalize)
