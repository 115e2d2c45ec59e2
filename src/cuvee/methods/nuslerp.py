"""NuSLERP: spherical interpolation of two models, or of two task vectors if there is a base (mergekit)."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np

from cuvee.method import PerModel, coefficient_method
from cuvee.ops.arrays import Array
from cuvee.ops.gram import gram_of
from cuvee.ops.stepwise import Run, Steps, Stepwise
from cuvee.ops.survey import Scope

COLINEAR = 1e-16
"""Squared sine up to which two vectors are interpolated in a straight line, as in mergekit."""


def _scope(semantics: str, settings: Any) -> Scope:
    if settings["nuslerp_flatten"]:
        return "tensor"
    return "column" if settings["nuslerp_row_wise"] else "row"


def _share(weight: Any) -> float:
    """Return how far to go from the first model to the second."""
    weights = np.asarray(weight, np.float64)
    total = weights.sum()
    return 0.5 if abs(total) < 1e-6 else float(weights[1] / total)


vector_gram = gram_of(_scope, reads=("nuslerp_flatten", "nuslerp_row_wise"))


def _in_steps(s: Steps, **settings: Any) -> Run:
    t = _share(settings["weight"])
    over = _scope("", settings)
    vectors = s.models if s.base is None else s.rounded(s.models - s.base)
    lengths = s.rounded((yield from s.length(vectors, over)))
    units = s.rounded(vectors / np.where(lengths > 0, lengths, 1))
    cosine = np.clip((yield from s.dot(units[0], units[1], over)), -1, 1)
    straight = s.rounded(1 - s.rounded(cosine * cosine)) <= COLINEAR
    angle = s.rounded(np.arccos(np.where(straight, 0, cosine)))
    parts = [s.rounded(np.sin(s.rounded(np.float32(share) * angle))) for share in (1 - t, t)]
    arc = s.rounded(_added(s, parts, vectors) / s.rounded(np.sin(angle)))
    result = np.where(straight, _added(s, [np.float32(1 - t), np.float32(t)], vectors), arc)
    return result if s.base is None else s.rounded(s.base + result)


def _added(s: Steps, factors: Sequence[Any], vectors: np.ndarray) -> np.ndarray:
    return s.rounded(s.rounded(factors[0] * vectors[0]) + s.rounded(factors[1] * vectors[1]))


@coefficient_method(
    "nuslerp",
    formula="[sin((1−t)Ω) θ₁ + sin(tΩ) θ₂] / sin Ω,  t = w₂ / (w₁ + w₂)",
    base="optional",
    models=(2, 2),
    reproducible="tolerance",
    stepwise=Stepwise(_in_steps, lambda settings: 2),
)
def nuslerp(
    *,
    weight: PerModel,
    nuslerp_flatten: bool = True,
    nuslerp_row_wise: bool = False,
    gram: Annotated[Array, vector_gram],
) -> Array:
    """Go along the arc from the first model to the second, as far as the second one's share of the weights.

    The angle is that between whole tensors; with `nuslerp_flatten: false` each row (a vector along the last axis) has
    its own, and with `nuslerp_row_wise` too, against its name, each column. Of a tensor of more than two axes each
    matrix has columns of its own (in mergekit they run along the first axis).
    """
    t = _share(weight)
    squares = np.diagonal(gram, axis1=-2, axis2=-1)
    lengths = np.sqrt(np.where(squares > 0, squares, 1))
    cosine = np.clip(gram[..., 0, 1] / (lengths[..., 0] * lengths[..., 1]), -1, 1)
    straight = 1 - cosine * cosine <= COLINEAR
    angle = np.arccos(np.where(straight, 0, cosine))
    sine = np.where(straight, 1, np.sin(angle))
    first = np.where(straight, 1 - t, np.sin((1 - t) * angle) / sine)
    second = np.where(straight, t, np.sin(t * angle) / sine)
    return np.stack([first, second], axis=-1)
