"""Sums over the entries of task vectors, which add up over blocks, tensors and layers; every figure comes from them."""

import importlib
import importlib.util
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from cuvee.kernels import BLOCK


@dataclass(frozen=True)
class Sums:
    """Sums over some entries of `models` task vectors.

    `gram` has their inner products and `base` the squared norm of the base model, in float64. `both` counts entries
    that two models changed, on the diagonal those that a model changed; `conflicts` those of them whose signs differ.
    """

    tensors: int
    entries: int
    base: float
    gram: np.ndarray
    both: np.ndarray
    conflicts: np.ndarray

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.tensors + other.tensors,
            self.entries + other.entries,
            self.base + other.base,
            self.gram + other.gram,
            self.both + other.both,
            self.conflicts + other.conflicts,
        )


def no_sums(models: int, tensors: int = 0) -> Sums:
    """Return the sums over nothing."""
    counts = np.zeros((models, models), np.int64)
    return Sums(tensors, 0, 0.0, np.zeros((models, models)), counts, counts)


def sums_of(stack: np.ndarray) -> Sums:
    """Sum over the numbers of the models [1 + models, n], of any float type, the base first.

    Numbers that are not finite make the sums so.
    """
    if stack.dtype == np.float64 or importlib.util.find_spec("numba") is None:
        return sums_by_definition(stack)
    fused = importlib.import_module("cuvee.kernels.fused")
    models = len(stack) - 1
    square, gram = np.zeros(1), np.zeros((models, models))
    both, conflicts = np.zeros((models, models), np.int64), np.zeros((models, models), np.int64)
    fused.pair_sums(stack, square, gram, both, conflicts)
    for lower in (gram, both, conflicts):
        lower += np.tril(lower, -1).T
    return Sums(0, stack.shape[1], float(square[0]), gram, both, conflicts)


def sums_by_definition(stack: np.ndarray) -> Sums:
    """Sum as `sums_of` does, in plain NumPy and a few blocks of memory."""
    parts = [_sums_of_block(stack[:, start : start + BLOCK]) for start in range(0, stack.shape[1], BLOCK)]
    return reduce(add, parts, no_sums(len(stack) - 1))


def _sums_of_block(stack: np.ndarray) -> Sums:
    wide = stack.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        base, deltas = wide[0], wide[1:] - wide[0]
        gram, square = deltas @ deltas.T, float(base @ base)
    return Sums(0, base.size, square, gram, *_counts(deltas))


def _counts(deltas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the entries that each pair changed, and those whose signs differ."""
    signs = (deltas > 0).astype(np.int8) - (deltas < 0).astype(np.int8)
    both = [[np.count_nonzero(a & b) for b in signs != 0] for a in signs != 0]
    conflicts = [[np.count_nonzero(a * b < 0) for b in signs] for a in signs]
    return np.array(both, np.int64), np.array(conflicts, np.int64)
