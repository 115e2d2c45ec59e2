"""Arcee Fusion: take over the entries of a second model that stand out by importance (Arcee, no paper).

mergekit finds the threshold in tensors of more than a million entries from a random sample, so that it is another one
each time; here the quantiles are exact.
"""

from typing import Annotated

import numpy as np

from cuvee.method import element_method
from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.order import order_statistics
from cuvee.ops.survey import Run, Situation, Survey, row_length

EPSILON = 1e-8
QUARTILES = (0.25, 0.5, 0.75)


def importance(stack: Array, row: int) -> Array:
    """Return |θ₁ − θ₀| times the divergence of the softmax of its row, [1, *shape], for a stack of base and model."""
    xp = array_namespace(stack)
    base, model = (xp.reshape(xp.astype(stack[i, ...], xp.float64), (-1, row)) for i in (0, 1))
    p, q = _softmax(model) + EPSILON, _softmax(base) + EPSILON
    divergence = xp.sum(p * xp.log(p / q), axis=-1, keepdims=True)
    # never below zero but for rounding
    scores = xp.abs(model - base) * xp.where(divergence > 0, divergence, xp.zeros_like(divergence))
    return xp.astype(xp.reshape(scores, stack.shape[1:]), stack.dtype)[None, ...]


def _softmax(rows: Array) -> Array:
    xp = array_namespace(rows)
    raised = xp.exp(rows - xp.max(rows, axis=-1, keepdims=True))
    return raised / xp.sum(raised, axis=-1, keepdims=True)


def _threshold(quartiles: np.ndarray) -> float:
    low, median, high = quartiles
    return float(median + 1.5 * (high - low))


class _Important:
    """Holds of entries whose importance is not below a threshold."""

    def __init__(self, threshold: float, row: int) -> None:
        self.threshold = threshold
        self.row = row

    def at(self, stack: np.ndarray, start: int) -> Array:
        return importance(stack, self.row)[0] >= self.threshold


def _run(s: Situation) -> Run:
    if not s.elements:
        return _Important(0.0, s.row)
    places = [s.elements - int(q * (s.elements - 1)) for q in QUARTILES]
    found = yield from order_statistics(s, [(0, k) for k in places], lambda stack: importance(stack, s.row))
    return _Important(_threshold(found), s.row)


def _whole(stack: Array, s: Situation) -> Array:
    xp = array_namespace(stack)
    scores = importance(stack, s.row)[0, ...]
    ordered = xp.sort(xp.reshape(scores, (-1,)))
    quartiles = np.asarray([float(ordered[int(q * (s.elements - 1))]) for q in QUARTILES])
    return scores >= _threshold(quartiles)


important = Survey(
    run=_run,
    whole=_whole,
    passes=lambda semantics, settings: 2,
    unit=lambda shape, semantics, settings: row_length(shape),
)
"""Entries whose importance is the median plus 1.5 times the distance of the quartiles, or more."""


@element_method(
    "arcee_fusion",
    paper="https://www.arcee.ai",
    formula="θ₀ + [I ≥ median + 1.5 (Q₃ − Q₁)] ⊙ (θ₁ − θ₀),  I = |θ₁ − θ₀| · KL(softmax θ₁ ‖ softmax θ₀) by rows",
    base="endpoint",
    models=(2, 2),
    reproducible="tolerance",
)
def arcee_fusion(stack: Array, *, keep: Annotated[Array, important]) -> Array:
    """Take the second model's entry where it is much more important than most, and the base model's elsewhere.

    An entry is important that changed, in a row (along the last axis) whose softmax changed.
    """
    return array_namespace(stack).where(keep, stack[1, ...], stack[0, ...])
