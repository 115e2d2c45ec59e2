"""RAM+: as RAM, and the lone changes of a model count more the more it shares with others.

mergekit counts within each tensor ("TL", tensor-local), the paper over the whole model. `semantics` chooses.
"""

from typing import Annotated

import numpy as np
from array_api_compat import to_device

from cuvee.kernels import Block
from cuvee.method import element_method
from cuvee.ops.arrays import Array, along_models, array_namespace, sum_models, wide
from cuvee.ops.survey import Constant, Run, Situation, Survey, summing
from cuvee.ops.task_vectors import active, shares_where
from cuvee.recipe.setting import Range


def _counts(stack: Array, epsilon: float) -> Array:
    """Count [models, 2] entries of each model: those that others changed too, and those that it alone changed."""
    xp = array_namespace(stack)
    changed = active(stack, epsilon)
    alone = sum_models(xp.astype(changed, xp.int32)) == 1
    axes = tuple(range(1, stack.ndim))
    sums = [xp.sum(xp.astype(changed & mask, xp.int64), axis=axes) for mask in (~alone, alone)]
    return xp.stack(sums, axis=1)


def _ratio(counts: Array) -> np.ndarray:
    shared, unique = np.asarray(to_device(counts, "cpu"), np.float64).T
    # a model without entries of its own has none that the ratio could strengthen
    return np.asarray(shared / np.where(unique > 0, unique, 1.0))


def _run(s: Situation) -> Run:
    def add(sums: np.ndarray, block: Block) -> None:
        sums += _counts(block.stack, s.settings["epsilon"])

    return Constant(_ratio((yield summing(s.models, add, (2,)))))


shared_ratio = Survey(
    run=_run,
    whole=lambda stack, s: _ratio(_counts(stack, s.settings["epsilon"])),
    scope=lambda semantics, settings: "model" if semantics == "paper" else "tensor",
    passes=lambda semantics, settings: 1,
    reads=("epsilon",),
)
"""How many entries each model shares with others for each that it alone changed."""


@element_method(
    "ramplus_tl",
    paper="arXiv:2601.13572",
    formula="θ₀ + λ Σ sᵢ aᵢ τᵢ / Σ aᵢ,  sᵢ = 1 + r · min(sharedᵢ / uniqueᵢ, alpha) where Σ aᵢ = 1, else 1",
)
def ramplus_tl(
    deltas: Array,
    *,
    r: Annotated[float, Range(0)] = 0.1,
    alpha: Annotated[float, Range(0)] = 0.2,
    epsilon: Annotated[float, Range(0)] = 1e-5,
    semantics: str,
    ratio: Annotated[Array, shared_ratio],
) -> Array:
    """Average each entry over the models that changed it; strengthen entries that a single model changed.

    `r` is how much, `alpha` the most that the ratio of shared to own entries counts, `epsilon` the least change.
    """
    xp = array_namespace(deltas)
    changed = active(deltas, epsilon)
    alone = sum_models(xp.astype(changed, xp.int32)) == 1
    shares = wide(shares_where(deltas, changed))
    strength = along_models(1 + r * np.minimum(ratio, alpha), shares)
    return sum_models(xp.where(alone, shares * strength, shares))
