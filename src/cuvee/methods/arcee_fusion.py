"""Arcee Fusion: take over the entries of a second model that stand out by importance (Arcee, no paper).

mergekit finds the threshold in tensors of more than a million entries from a random sample, so that it differs a little
each time; here the quantiles are exact.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from cuvee.kernels import Block
from cuvee.method import element_method
from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.order import count_highest, no_counts, order_statistics_of_counted
from cuvee.ops.survey import Fold, Run, Situation, Survey, of_one_tensor, row_length
from cuvee.ops.task_vectors import taken

EPSILON = 1e-8
QUARTILES = (0.25, 0.5, 0.75)


def divergence(stack: Array, row: int) -> Array:
    """Return [rows, 1] how far the softmax of each row of the model is from that of the base, in float64."""
    xp = array_namespace(stack)
    base, model = (xp.reshape(xp.astype(stack[i, ...], xp.float64), (-1, row)) for i in (0, 1))
    p, q = _softmax(model) + EPSILON, _softmax(base) + EPSILON
    apart = xp.sum(p * xp.log(p / q), axis=-1, keepdims=True)
    # never below zero but for rounding
    return xp.where(apart > 0, apart, xp.zeros_like(apart))


def _softmax(rows: Array) -> Array:
    xp = array_namespace(rows)
    raised = xp.exp(rows - xp.max(rows, axis=-1, keepdims=True))
    return raised / xp.sum(raised, axis=-1, keepdims=True)


def importance(stack: Array, apart: Array) -> Array:
    """Return |θ₁ − θ₀| times the divergence of its row, [1, *shape]; in float32 at least, or many would be equal."""
    xp = array_namespace(stack)
    base, model = (xp.astype(stack[i, ...], xp.float64) for i in (0, 1))
    scores = xp.reshape(xp.abs(model - base), (apart.shape[0], -1)) * apart
    kind = xp.float32 if stack.dtype.itemsize == 2 else stack.dtype
    return xp.astype(xp.reshape(scores, stack.shape[1:]), kind)[None, ...]


def _threshold(quartiles: np.ndarray) -> float:
    low, median, high = quartiles
    return float(median + 1.5 * (high - low))


@dataclass(frozen=True)
class _Important:
    """Holds of entries whose importance is not below a threshold."""

    threshold: float
    apart: np.ndarray
    row: int

    def begin(self) -> "_Important":
        return self

    def at(self, block: Block) -> Array:
        return self.importance(block)[0] >= self.threshold

    def importance(self, block: Block) -> np.ndarray:
        first = block.start // self.row
        factors = np.ascontiguousarray(self.apart[first : first + block.size // self.row, 0])
        out = np.empty(block.size, np.float64 if block.dtype.itemsize == 8 else np.float32)
        block.kernels.scaled_distances(block, factors, out)
        return out[None]


def _divergences(s: Situation) -> Fold:
    """Return a fold into the divergences of all rows, and the counts of the importance of their entries."""

    def add(state: tuple[np.ndarray, np.ndarray], block: Block) -> tuple[np.ndarray, np.ndarray]:
        apart, counts = state
        first = block.start // s.row
        block.kernels.divergences(block, EPSILON, apart[first : first + block.size // s.row, 0])
        count_highest(s, _Important(0.0, apart, s.row).importance(block), block, counts)
        return state

    return Fold(lambda: (np.empty((s.elements // s.row, 1)), no_counts(s)), add, of_one_tensor)


def _run(s: Situation) -> Run:
    apart, counts = yield _divergences(s)
    if not s.elements:
        return _Important(0.0, apart, s.row)
    places = [s.elements - int(q * (s.elements - 1)) for q in QUARTILES]
    scores = _Important(0.0, apart, s.row).importance
    found = yield from order_statistics_of_counted(s, places, counts, scores)
    return _Important(_threshold(found), apart, s.row)


def _whole(stack: Array, s: Situation) -> Array:
    xp = array_namespace(stack)
    scores = importance(stack, divergence(stack, s.row))[0, ...]
    ordered = xp.sort(xp.reshape(scores, (-1,)))
    quartiles = np.asarray([float(ordered[int(q * (s.elements - 1))]) for q in QUARTILES])
    return scores >= _threshold(quartiles)


important = Survey(
    run=_run,
    whole=_whole,
    passes=lambda semantics, settings: 2,
    unit=lambda shape, semantics, settings: row_length(shape),
    holds=lambda models, shape, semantics, settings: 8 * math.prod(shape) // row_length(shape),
)
"""Entries whose importance is the median plus 1.5 times the distance of the quartiles, or more."""


@element_method(
    "arcee_fusion",
    paper="https://www.arcee.ai",
    formula="θ₀ + [I ≥ median + 1.5 (Q₃ − Q₁)] ⊙ (θ₁ − θ₀),  I = |θ₁ − θ₀| · KL(softmax θ₁ ‖ softmax θ₀) by rows",
    base="endpoint",
    models=(2, 2),
    reproducible="tolerance",
    staged=True,
)
def arcee_fusion(stack: Array, *, keep: Annotated[Array, important]) -> Array:
    """Take the second model's entry where it is much more important than most, and the base model's elsewhere.

    An entry is important that changed, in a row (along the last axis) whose softmax changed.
    """
    return taken(stack, keep)
