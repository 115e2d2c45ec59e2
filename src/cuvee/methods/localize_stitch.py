"""Localize-and-Stitch without data: the largest changes of each model, averaged where they overlap (He et al. 2024).

The paper also learns the masks from a few examples; MergeBench uses the 10 % of largest changes, as here.
"""

from dataclasses import replace
from typing import Annotated

from cuvee.method import UNIT, PerModel, element_method
from cuvee.ops.arrays import Array
from cuvee.ops.sparsify import keep_largest
from cuvee.ops.survey import Survey
from cuvee.ops.task_vectors import mean_where

largest_of_model = Survey(
    run=lambda s: keep_largest.run(replace(s, semantics="paper")),
    whole=lambda stack, s: keep_largest.whole(stack, replace(s, semantics="paper")),
    scope=lambda semantics, settings: "model",
    passes=keep_largest.passes,
    reads=keep_largest.reads,
)


@element_method(
    "localize_stitch",
    paper="arXiv:2408.13656",
    formula="θ₀ + λ Σ mᵢ τᵢ / Σ mᵢ,  mᵢ = the largest |τᵢ| of the whole model",
)
def localize_stitch(
    deltas: Array,
    *,
    density: Annotated[PerModel, UNIT] = 0.1,
    keep: Annotated[Array, largest_of_model],
) -> Array:
    """Keep the `density` share of largest changes of each whole model and average entries that several models keep.

    Entries that a model left as they were count for none, also where the share takes them in.
    """
    return mean_where(deltas, keep & (deltas != 0))
