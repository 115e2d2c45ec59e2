"""Spherical interpolation between two models (Shoemake 1985), tensor by tensor."""

from typing import Annotated

import numpy as np

from cuvee.method import UNIT, Gram, coefficient_method
from cuvee.ops.arrays import Array

PARALLEL = 0.9995
"""Cosine above which the two are taken as parallel and interpolated in a straight line, as mergekit does: an angle of
1.8 degrees. Fine-tunes that differ from their base by less than 3 % stay on this branch."""


@coefficient_method(
    "slerp",
    formula="[sin((1−t)Ω) θ₀ + sin(tΩ) θ₁] / sin Ω",
    base="endpoint",
    models=(2, 2),
    reproducible="tolerance",
)
def slerp(*, t: Annotated[float, UNIT], gram: Gram) -> Array:
    """Go from the base model (t = 0) to the other (t = 1) along the arc between them.

    The angle is that between the flattened tensors; the tensors themselves are not normalised.
    """
    lengths = np.sqrt(np.diagonal(gram))
    cosine = gram[0, 1] / np.prod(np.where(lengths > 1e-8, lengths, 1.0))
    if abs(cosine) > PARALLEL:
        return np.array([1 - t, t])
    angle = np.arccos(cosine)
    return np.array([np.sin((1 - t) * angle), np.sin(t * angle)]) / np.sin(angle)
