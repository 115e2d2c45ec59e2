"""Fisher merging (Matena and Raffel 2022): each entry nearest to the model whose loss it matters to.

It is the most likely point under a Gaussian around each model, whose precision is the diagonal of the Fisher
information. As in FusionBench each model's diagonal has length 1 over the whole model: without that a model that knows
its text by heart, and so has small gradients everywhere, would count for nothing.
"""

from typing import Annotated

from cuvee.method import FisherDiagonal, PerModel, element_method
from cuvee.ops.arrays import Array, along_models, array_namespace, sum_models, wide
from cuvee.recipe.setting import Range


@element_method(
    "fisher",
    paper="arXiv:2111.09832",
    formula="Σ wᵢFᵢθᵢ / Σ wᵢFᵢ,  Fᵢ = mean (∂ loss / ∂θᵢ)² over the documents of a text",
    base="optional",
)
def fisher(
    models: Array,
    *,
    weight: Annotated[PerModel, Range(0)] = 1.0,
    importance: FisherDiagonal,
) -> Array:
    """Average each entry of the models by how much each model's loss depends on it.

    Needs `statistics` of each model on a text of its own skill, made with `--keep fisher`. Entries that no model's loss
    depends on are averaged by the weights alone.
    """
    xp = array_namespace(models)
    numbers = wide(models)
    plain = along_models(weight, numbers) + xp.zeros_like(numbers)
    important = plain * xp.astype(importance, numbers.dtype)
    counted = sum_models(important) > 0
    parts = xp.where(counted, important, plain)
    total = sum_models(parts)
    return sum_models(numbers * (parts / xp.where(total > 0, total, xp.ones_like(total))))
