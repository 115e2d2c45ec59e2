"""decay: the average of checkpoints that stands for a decay of the learning rate.

Source: WSM (arXiv:2507.17634). If the update that led to checkpoint j is to count with factor cⱼ, then checkpoint j has
the weight cⱼ − cⱼ₊₁, and the first checkpoint, before all updates, 1 − c₁.
"""

import math
from itertools import pairwise
from typing import Annotated, Literal

from cuvee.addition import weight_rule
from cuvee.method import UNIT, PerModel


@weight_rule(
    "decay",
    formula="w₀ = 1 − c₁; wⱼ = cⱼ − cⱼ₊₁ with 1 ≥ c₁ ≥ ... ≥ cₙ ≥ cₙ₊₁ = 0",
    paper="arXiv:2507.17634",
)
def decay(
    models: int,
    *,
    shape: Literal["linear", "cosine"] = "linear",
    factors: Annotated[PerModel, UNIT] = None,
) -> list[float]:
    """Average checkpoints of a constant learning rate as if it had decayed.

    `factors` has a number for each update, of which there are fewer by one than checkpoints, and none above the number
    before it; given, it counts instead of `shape`. A linear decay weighs all checkpoints alike.
    """
    updates = models - 1
    counts = list(factors) if factors is not None else [_factor(shape, j / models) for j in range(1, models)]
    if len(counts) != updates:
        raise ValueError(f"'factors' needs one number for each of {updates} updates, found {len(counts)}")
    counts = [1.0, *counts, 0.0]
    if any(after > before for before, after in pairwise(counts)):
        raise ValueError("'factors' may not increase")
    return [before - after for before, after in pairwise(counts)]


def _factor(shape: str, position: float) -> float:
    return 1 - position if shape == "linear" else (1 + math.cos(math.pi * position)) / 2
