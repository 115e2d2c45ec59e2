"""The stages of generalised task arithmetic: sparsify -> rescale -> weight -> elect signs -> combine.

Blocks of NumPy arrays go through compiled kernels; what stands here is what those kernels do, for any array library.
"""

import numpy as np

from cuvee.kernels import for_blocks
from cuvee.ops.arrays import Array, along_models, array_namespace, sum_models


def sparse(deltas: Array, keep: Array, scale: Array) -> Array:
    """Zero what is not kept and multiply the rest by `scale`, one number a model or one an entry."""
    by_entry = len(scale.shape) > 1
    if not by_entry and (kernels := for_blocks(deltas)) is not None:
        out = np.empty_like(deltas)
        kernels.sparse(deltas, keep, scale, out)
        return out
    xp = array_namespace(deltas)
    factor = xp.astype(xp.asarray(scale), deltas.dtype) if by_entry else along_models(scale, deltas)
    return xp.where(keep, deltas * factor, xp.zeros_like(deltas))


def active(deltas: Array, epsilon: float) -> Array:
    """Say which entries changed by more than `epsilon`."""
    xp = array_namespace(deltas)
    return xp.abs(deltas) > xp.asarray(epsilon, dtype=deltas.dtype)


def mean_where(deltas: Array, counted: Array) -> Array:
    """Average each entry over the models in which it is counted; zero where it is in none."""
    xp = array_namespace(deltas)
    count = sum_models(xp.astype(counted, deltas.dtype))
    total = sum_models(xp.where(counted, deltas, xp.zeros_like(deltas)))
    return total / xp.where(count == 0, xp.ones_like(count), count)


def weighted_sum(deltas: Array, weight: Array, *, normalize: bool) -> Array:
    """Sum weight x delta; divided by the sum of the weights if asked, unless that is about zero."""
    total_weight = float(np.sum(np.asarray(weight)))
    divisor = total_weight if normalize and abs(total_weight) >= 1e-8 else 1.0
    if (kernels := for_blocks(deltas)) is not None:
        out = np.empty(deltas.shape[1], deltas.dtype)
        kernels.weighted_sum(deltas, weight, divisor, out)
        return out
    xp = array_namespace(deltas)
    total = sum_models(deltas * along_models(weight, deltas))
    return total if divisor == 1 else total / xp.asarray(divisor, dtype=total.dtype)


def elected_sum(
    deltas: Array, weight: Array, *, normalize: bool, weights_vote: bool = True, when_even: float = 1.0
) -> Array:
    """Sum weight x delta over the models that agree with the elected sign (TIES, section 3 of arXiv:2306.01708).

    The sign is that of the sum over the models, weighted if the weights vote; `when_even` where that sum is zero. With
    `normalize` the result is divided by the sum of the agreeing models' |weight|, so that a negative weight subtracts
    (mergekit divides by the signed sum, which turns the update around).
    """
    votes = np.asarray(weight, np.float64) if weights_vote else np.ones(deltas.shape[0])
    if (kernels := for_blocks(deltas)) is not None:
        out = np.empty(deltas.shape[1], deltas.dtype)
        kernels.elected_sum(deltas, weight, votes, normalize, when_even, out)
        return out
    xp = array_namespace(deltas)
    weights = along_models(weight, deltas)
    weighted = deltas * weights
    total = sum_models(deltas * along_models(votes, deltas))
    elected = xp.where(total == 0, xp.asarray(when_even, dtype=total.dtype), xp.sign(total))
    agrees = (weighted * elected) > 0
    zero = xp.zeros_like(weighted)
    merged = sum_models(xp.where(agrees, weighted, zero)) + (total - total)  # not a number where a vote is none
    if not normalize:
        return merged
    divisor = sum_models(xp.where(agrees, xp.abs(weights) + zero, zero))
    return merged / xp.where(divisor == 0, xp.ones_like(divisor), divisor)
