"""The stages of generalised task arithmetic: sparsify -> rescale -> weight -> elect signs -> combine.

Each stage takes arrays of any library, or the `TaskVectors` of a block: then it only notes the work to do, and the
kernels do all stages in one pass.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cuvee.kernels import Block, Kept
from cuvee.ops.arrays import Array, along_models, array_namespace, sum_models

NOTHING = 1e-8
"""Weights are not divided by a sum that is smaller."""


@dataclass(frozen=True)
class TaskVectors:
    """The task vectors of a block, to be multiplied by a factor a model where they are kept."""

    block: Block
    kept: Kept
    factor: np.ndarray


@dataclass(frozen=True)
class WeightedSum:
    """The result of `weighted_sum` for a block."""

    deltas: TaskVectors
    weight: np.ndarray
    divisor: float

    def write(self, scale: float, add: bool, out: np.ndarray, loss: np.ndarray) -> None:
        """Write it as `Kernels.combine` does."""
        d = self.deltas
        d.block.kernels.weighted_sum(d.block, d.kept, d.factor, self.weight, self.divisor, scale, add, out, loss)


@dataclass(frozen=True)
class ElectedSum:
    """The result of `elected_sum` for a block."""

    deltas: TaskVectors
    weight: np.ndarray
    weights_vote: bool
    normalize: bool
    when_even: float

    def write(self, scale: float, add: bool, out: np.ndarray, loss: np.ndarray) -> None:
        """Write it as `Kernels.combine` does."""
        d = self.deltas
        d.block.kernels.elected_sum(
            d.block, d.kept, d.factor, self.weight, self.weights_vote, self.normalize, self.when_even,
            scale, add, out, loss,
        )  # fmt: skip


@dataclass(frozen=True)
class Taken:
    """The result of `taken` for a block."""

    block: Block
    mask: np.ndarray

    def write(self, scale: float, add: bool, out: np.ndarray, loss: np.ndarray) -> None:
        """Write it; there is no base to add."""
        self.block.kernels.take(self.block, self.mask, out)


@dataclass(frozen=True)
class Weights:
    """Coefficients that are plain weights; with `normalize` divided by their sum, unless that is about zero.

    Where 16 bits are computed in, `weighted_sum` takes them instead, which rounds every step. Coefficients that were
    calculated are taken as they are, and only the sum is rounded.
    """

    numbers: np.ndarray
    normalize: bool

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        total = self.numbers.sum()
        return np.array(self.numbers / total if self.normalize and abs(total) >= NOTHING else self.numbers, dtype)


def task_vectors(block: Block) -> TaskVectors:
    return TaskVectors(block, Kept(), np.ones(block.models))


def sparse(deltas: Any, keep: Array, scale: Array) -> Any:
    """Zero the entries that are not kept and multiply the rest by `scale`, a number for each model or entry."""
    if isinstance(deltas, TaskVectors):
        kept = keep if isinstance(keep, Kept) else Kept(np.ascontiguousarray(keep))
        return replace(deltas, kept=kept, factor=np.asarray(scale, np.float64))
    xp = array_namespace(deltas)
    by_entry = len(scale.shape) > 1
    factor = xp.astype(xp.asarray(scale), deltas.dtype) if by_entry else along_models(scale, deltas)
    return xp.where(keep, deltas * factor, xp.zeros_like(deltas))


def taken(stack: Any, mask: Array) -> Any:
    """Take the second model's entry where the mask holds, the first's elsewhere."""
    if isinstance(stack, TaskVectors):
        return Taken(stack.block, np.ascontiguousarray(mask))
    return array_namespace(stack).where(mask, stack[1, ...], stack[0, ...])


def active(deltas: Array, epsilon: float) -> Array:
    """Say which entries changed by more than `epsilon`."""
    xp = array_namespace(deltas)
    return xp.abs(deltas) > xp.asarray(epsilon, dtype=deltas.dtype)


def mean_where(deltas: Array, counted: Array) -> Array:
    """Average each entry over the models in which it is counted; zero where it is in none."""
    return sum_models(shares_where(deltas, counted))


def shares_where(deltas: Array, counted: Array) -> Array:
    """Return the part of each model in the average of an entry over the models in which it is counted."""
    xp = array_namespace(deltas)
    count = sum_models(xp.astype(counted, deltas.dtype))
    shares = deltas / xp.where(count == 0, xp.ones_like(count), count)
    return xp.where(counted, shares, xp.zeros_like(shares))


def weighted_sum(deltas: Any, weight: Array, *, normalize: bool) -> Any:
    """Sum weight x delta; divided by the sum of the weights if asked, unless that is about zero."""
    like = np.empty(0, deltas.block.dtype) if isinstance(deltas, TaskVectors) else deltas
    total_weight = _sum_of(weight, like)
    divisor = total_weight if normalize and abs(total_weight) >= NOTHING else 1.0
    if isinstance(deltas, TaskVectors):
        return WeightedSum(deltas, np.asarray(weight, np.float64), divisor)
    xp = array_namespace(deltas)
    total = sum_models(deltas * along_models(weight, deltas))
    return total if divisor == 1 else total / xp.asarray(divisor, dtype=total.dtype)


def _sum_of(weight: Array, like: Array) -> float:
    """Return the sum of the weights; where `like` is of 16 bits, of those rounded to its type."""
    if like.dtype.itemsize > 2:
        return float(np.sum(np.asarray(weight)))
    xp = array_namespace(like)
    return float(xp.sum(xp.astype(xp.astype(xp.asarray(weight), like.dtype), xp.float64)))


def elected_sum(
    deltas: Any, weight: Array, *, normalize: bool, weights_vote: bool = True, when_even: float = 1.0
) -> Any:
    """Sum weight x delta over the models that agree with the elected sign (TIES, section 3 of arXiv:2306.01708).

    The sign is that of the sum over the models, weighted if the weights vote; `when_even` where that sum is zero. With
    `normalize` the result is divided by the sum of the agreeing models' |weight|, so that a negative weight subtracts
    (mergekit divides by the signed sum, which turns the update around).
    """
    if isinstance(deltas, TaskVectors):
        return ElectedSum(deltas, np.asarray(weight, np.float64), weights_vote, normalize, when_even)
    xp = array_namespace(deltas)
    weights = along_models(weight, deltas)
    weighted = deltas * weights
    total = sum_models(weighted if weights_vote else deltas)
    elected = xp.where(total == 0, xp.asarray(when_even, dtype=total.dtype), xp.sign(total))
    agrees = (weighted * elected) > 0
    zero = xp.zeros_like(weighted)
    merged = sum_models(xp.where(agrees, weighted, zero)) + (total - total)  # not a number where a vote is none
    if not normalize:
        return merged
    divisor = sum_models(xp.where(agrees, xp.abs(weights) + zero, zero))
    return merged / xp.where(divisor == 0, xp.ones_like(divisor), divisor)
