"""CABS: n of every m entries from each model, without conflicts (Yang et al. 2025).

The models are served in the order of the recipe, which matters: each prunes its share of the rest. The official
code fails or drops entries where a tensor is no multiple of m; here the last group, of k entries, keeps ⌈n k / m⌉.
"""

import math
from typing import Annotated

import numpy as np

from cuvee.kernels import Block
from cuvee.method import PerModel, element_method
from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.order import Ranks, ranks, ranks_by
from cuvee.ops.survey import Run, Situation, Survey
from cuvee.ops.task_vectors import sparse, weighted_sum
from cuvee.recipe.setting import Range


def keep_in_groups(stack: Array, n: int, m: int, rank_of: Ranks = ranks) -> Array:
    """Say which entries of a stack [models, elements] are kept: in each group of m, n for each model in turn."""
    xp = array_namespace(stack)
    models, elements = stack.shape
    whole = elements // m * m
    parts = []
    if whole:
        groups = xp.reshape(stack[:, :whole], (models, -1, m))
        parts.append(xp.reshape(_in_turn(groups, n, rank_of), (models, whole)))
    if whole < elements:
        rest = stack[:, None, whole:]
        parts.append(_in_turn(rest, -(-n * (elements - whole) // m), rank_of)[:, 0, :])
    return xp.concat(parts, axis=1) if parts else xp.zeros_like(stack, dtype=xp.bool)


def _in_turn(groups: Array, n: int, rank_of: Ranks) -> Array:
    xp = array_namespace(groups)
    free = groups[0, ...] == groups[0, ...]
    kept = []
    for i in range(groups.shape[0]):
        magnitude = xp.abs(groups[i, ...])
        left = xp.where(free, magnitude, xp.zeros_like(magnitude))
        chosen = (rank_of(left) < n) & (left > 0)
        kept.append(chosen)
        free = free & ~chosen
    return xp.stack(kept)


class _Groups:
    def __init__(self, n: int, m: int) -> None:
        self.n, self.m = n, m

    def begin(self) -> "_Groups":
        return self

    def at(self, block: Block) -> Array:
        return keep_in_groups(block.stack, self.n, self.m, ranks_by(block.kernels))


def _run(s: Situation) -> Run:
    yield from ()
    return _Groups(s.settings["n"], s.settings["m"])


def _whole(stack: Array, s: Situation) -> Array:
    xp = array_namespace(stack)
    flat = xp.reshape(stack, (s.models, -1))
    return xp.reshape(keep_in_groups(flat, s.settings["n"], s.settings["m"]), stack.shape)


kept_in_groups = Survey(
    run=_run,
    whole=_whole,
    unit=lambda shape, semantics, settings: max(1, min(settings["m"], math.prod(shape))),
    reads=("n", "m"),
)


@element_method(
    "cabs",
    paper="arXiv:2503.01874",
    formula="θ₀ + λ Σ wᵢ (mᵢ ⊙ τᵢ),  mᵢ = the n largest |τᵢ| of each m that are free",
    staged=True,
)
def cabs(
    deltas: Array,
    *,
    weight: PerModel = 1.0,
    n: Annotated[int, Range(1)] = 64,
    m: Annotated[int, Range(1)] = 256,
    keep: Annotated[Array, kept_in_groups],
) -> Array:
    """Give each model in turn the `n` entries of every `m` neighbours that it changed most, of those still free.

    So no entry comes from two models. Entries that a model left as they were stay free for the next.
    """
    return weighted_sum(sparse(deltas, keep, np.ones(len(np.asarray(weight)))), weight, normalize=False)
