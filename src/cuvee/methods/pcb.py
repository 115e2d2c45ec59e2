"""PCB-Merging: weigh each entry by how much its model and the others care for it (Du et al. 2024).

The official code takes quantiles and extremes over the whole model (`scope: model`), merge-and-rebase over each tensor
(`scope: tensor`). In the official code the competition between models is that of raw changes, in the paper and here
that of normalised scores.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np

from cuvee.kernels import Block
from cuvee.method import UNIT, PerModel, element_method
from cuvee.ops.arrays import Array, along_models, array_namespace, sum_models
from cuvee.ops.order import Wanted, order_statistics, signed_order_statistics
from cuvee.ops.survey import Constant, Run, Situation, Survey
from cuvee.recipe.setting import Range


def clipped(deltas: Array, bounds: Array) -> Array:
    """Return the magnitudes clipped to the bounds [2, models]."""
    xp = array_namespace(deltas)
    low, high = along_models(bounds[0], deltas), along_models(bounds[1], deltas)
    return xp.minimum(xp.maximum(xp.abs(deltas), low), high)


def balance(deltas: Array, bounds: Array) -> Array:
    """Return the score of each entry: intra-balancing x inter-balancing (section 3.2)."""
    xp = array_namespace(deltas)
    wide = xp.astype(deltas, xp.float64)
    low, span = bounds[0], bounds[1] - bounds[0]
    above = clipped(wide, bounds) - along_models(low, wide)
    normal = above / along_models(np.where(span > 0, span, 1), wide)
    intra = xp.exp(deltas.shape[0] * normal * normal)
    inter = xp.tanh(wide * sum_models(xp.sign(wide) * normal)[None, ...])
    return xp.astype(intra * inter, xp.float32)


def _places(s: Situation) -> list[tuple[int, int]]:
    """Return the places, from 0 and the smallest up, of the lower and upper bound of the magnitudes."""
    clip = s.settings["clip"]
    low = int(s.elements * clip)
    return [(low, max(low, int(s.elements * (1 - clip) - 1)))] * s.models


def _cuts(s: Situation) -> list[tuple[int, int]]:
    """Return the places of the score that counts as 0 and of the highest."""
    cuts = [int(s.elements * (1 - density)) for density in s.settings["density"]]
    return [(min(cut, s.elements - 1), s.elements - 1) for cut in cuts]


def _from_top(places: Sequence[tuple[int, int]], elements: int) -> list[Wanted]:
    return [(row, elements - pair[which]) for which in (0, 1) for row, pair in enumerate(places)]


def _sorted_at(rows: Array, places: Sequence[tuple[int, int]]) -> np.ndarray:
    xp = array_namespace(rows)
    ordered = xp.sort(xp.reshape(rows, (rows.shape[0], -1)), axis=-1)
    return np.asarray([[float(ordered[i, pair[which]]) for i, pair in enumerate(places)] for which in (0, 1)])


def _bounds(s: Situation) -> Run:
    if not s.elements:
        return Constant(np.zeros((2, s.models)))
    found = yield from order_statistics(s, _from_top(_places(s), s.elements))
    return Constant(found.reshape(2, s.models))


def _limits(s: Situation) -> Run:
    if not s.elements:
        return Constant(np.zeros((2, s.models)))
    bounds = s.found["bounds"].value

    def scores(block: Block) -> np.ndarray:
        return np.asarray(balance(block.stack, bounds))

    found = yield from signed_order_statistics(s, _from_top(_cuts(s), s.elements), scores)
    return Constant(found.reshape(2, s.models))


bounds_of_magnitude = Survey(
    run=_bounds,
    whole=lambda stack, s: _sorted_at(abs(stack), _places(s)),
    scope=lambda semantics, settings: settings["scope"],
    passes=lambda semantics, settings: 2 if settings["scope"] == "model" else 3,
    reads=("clip", "scope"),
)
"""The magnitudes [2, models] that lie a `clip` share from the smallest and from the largest."""

limits_of_score = Survey(
    run=_limits,
    whole=lambda stack, s: _sorted_at(balance(stack, s.found["bounds"]), _cuts(s)),
    scope=lambda semantics, settings: settings["scope"],
    passes=lambda semantics, settings: 2,
    reads=("density", "scope"),
)
"""The scores [2, models] that count as 0 and as 1: a `density` share is above the first, the second is the highest."""


@element_method(
    "pcb",
    paper="arXiv:2410.02396",
    formula="θ₀ + λ Σ sᵢ cᵢ / Σ sᵢ,  s = top density of exp(N n²) · tanh(τ Σ sign τⱼ nⱼ), scaled to [0, 1]",
    reproducible="tolerance",
)
def pcb(
    deltas: Array,
    *,
    density: Annotated[PerModel, UNIT] = 0.1,
    clip: Annotated[float, Range(0, 0.5, open_high=True)] = 1e-4,
    scope: Literal["model", "tensor"] = "model",
    bounds: Annotated[Array, bounds_of_magnitude],
    limits: Annotated[Array, limits_of_score],
) -> Array:
    """Average the task vectors, entry by entry, with weights that reward large changes that the models agree on.

    `density` is the share of entries of each model that have a weight, `clip` the share of largest and of smallest
    magnitudes that are clipped (to cᵢ; nᵢ are those scaled to [0, 1]). The paper uses λ = 1.2 and a density of 0.05 to
    0.2.
    """
    xp = array_namespace(deltas)
    floor, span = limits[0], limits[1] - limits[0]
    above = xp.astype(balance(deltas, bounds), xp.float64)
    above = above - along_models(floor, above)
    share = xp.where(above > 0, above, xp.zeros_like(above)) / along_models(np.where(span > 0, span, 1), above)
    weight = xp.astype(share, deltas.dtype)
    total = sum_models(weight)
    merged = sum_models(weight * xp.sign(deltas) * clipped(deltas, bounds))
    return merged / xp.where(total > 1e-12, total, xp.full_like(total, 1e-12))
