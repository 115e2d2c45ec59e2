"""NearSwap: a clipped step towards a second model (alchemonaut 2024).

mergekit interpolates with weight min(1, t / max(|δ|, 1e-6)), which is the same for every t of at least 1e-6.
"""

from typing import Annotated

import numpy as np

from cuvee.method import element_method
from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.stepwise import Run, Steps, Stepwise
from cuvee.recipe.setting import Range


def _in_steps(s: Steps, *, t: float) -> Run:
    assert s.base is not None
    (model,) = s.models
    apart = np.abs(s.rounded(s.base - model))
    weight = s.rounded(s.rounded(1 / apart) * np.float32(t))  # torch divides a number by a tensor in two steps
    weight = np.where(apart == 0, np.float32(1), np.minimum(weight, 1))
    return s.rounded(s.rounded(weight * model) + s.rounded(s.rounded(1 - weight) * s.base))
    yield  # no sum is asked for


@element_method(
    "nearswap",
    paper="https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
    formula="θ₀ + clip(θ₁ − θ₀, −t, t)",
    models=(1, 1),
    stepwise=Stepwise(_in_steps, lambda settings: 0),
)
def nearswap(deltas: Array, *, t: Annotated[float, Range(0)]) -> Array:
    """Move each entry of the base model to the other model's, but by `t` at most; typical is 1e-4."""
    xp = array_namespace(deltas)
    delta = deltas[0, ...]
    limit = xp.asarray(t, dtype=delta.dtype)
    return xp.where(xp.abs(delta) <= limit, delta, limit * xp.sign(delta))
