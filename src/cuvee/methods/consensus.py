"""Consensus merging: leave out entries that matter to fewer than k models (Wang et al. 2024).

TALL masks say which entries of the sum of task vectors matter to which model. The paper chooses `mask_lambda` by each
task's accuracy among 0.2 to 0.6; here it is a setting.
"""

from typing import Annotated

from cuvee.method import PerModel, element_method
from cuvee.ops.arrays import Array, along_models, array_namespace, sum_models
from cuvee.recipe.setting import Range


@element_method(
    "consensus",
    paper="arXiv:2405.07813",
    formula="θ₀ + λ [Σ mᵢ ≥ k] ⊙ Σ τᵢ,  mᵢ = [|τᵢ| > λᵢ |Σ τⱼ − τᵢ|]",
)
def consensus(
    deltas: Array,
    *,
    mask_lambda: Annotated[PerModel, Range(0)] = 0.4,
    k: Annotated[int, Range(1)] = 2,
) -> Array:
    """Sum the task vectors and keep the entries that matter to at least `k` models.

    An entry matters to a model whose change is more than `mask_lambda` times that of all others together. `k` counts
    as the number of models where it is larger. Entries that no model changed matter to none.
    """
    xp = array_namespace(deltas)
    total = sum_models(deltas)
    matters = xp.abs(deltas) > along_models(mask_lambda, deltas) * xp.abs(total - deltas)
    enough = sum_models(xp.astype(matters, xp.int32)) >= min(k, deltas.shape[0])
    return xp.where(enough, total, xp.zeros_like(total))
