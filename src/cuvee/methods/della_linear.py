"""DELLA: drop entries at random, small ones more often, and rescale (Deep et al. 2024), then add up.

mergekit rescales so that each tensor keeps its sum of magnitudes, the paper each entry by 1 / its probability of
staying. `semantics` chooses. The official code's drop rate is 1 - density and its window 2 epsilon. mergekit refuses a
window that does not fit into (0, 1), and rows of one entry; here the window is made smaller, and such a row has the
density.
"""

from typing import Annotated

from cuvee.method import UNIT, PerModel, element_method
from cuvee.ops.arrays import Array
from cuvee.ops.by_rank import keep_by_rank, rescaling_by_rank
from cuvee.ops.task_vectors import sparse, weighted_sum


@element_method(
    "della_linear",
    paper="arXiv:2406.11617",
    formula="θ₀ + λ Σ wᵢ sᵢ (bᵢ ⊙ τᵢ),  bᵢ ~ Bernoulli(density ± epsilon, by rank in the row)",
    staged=True,
)
def della_linear(
    deltas: Array,
    *,
    weight: PerModel,
    density: Annotated[PerModel, UNIT] = 1.0,
    epsilon: Annotated[PerModel, UNIT] = 0.15,
    normalize: bool = False,
    rescale: bool = True,
    semantics: str,
    keep: Annotated[Array, keep_by_rank],
    scale: Annotated[Array, rescaling_by_rank],
) -> Array:
    """Sum task vectors thinned at random, where the larger of a row are likelier to stay.

    `density` is the mean probability of staying, from density - epsilon for the smallest entry of a row (along the last
    axis) to density + epsilon for the largest. The draws are those of `dare_linear`.
    """
    return weighted_sum(sparse(deltas, keep, scale), weight, normalize=normalize)
