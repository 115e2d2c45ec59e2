"""The stages of generalised task arithmetic: sparsify -> rescale -> weight -> elect signs -> combine."""

from cuvee.ops.arrays import Array, along_models, array_namespace, sum_models


def sparse(deltas: Array, keep: Array, scale: Array) -> Array:
    """Zero what is not kept and multiply the rest by `scale`, one number a model."""
    xp = array_namespace(deltas)
    return xp.where(keep, deltas * along_models(scale, deltas), xp.zeros_like(deltas))


def weighted_sum(deltas: Array, weight: Array, *, normalize: bool) -> Array:
    """Sum weight x delta; divided by the sum of the weights if asked, unless that is about zero."""
    xp = array_namespace(deltas)
    total = sum_models(deltas * along_models(weight, deltas))
    divisor = float(xp.sum(xp.asarray(weight)))
    if not normalize or abs(divisor) < 1e-8:
        return total
    return total / xp.asarray(divisor, dtype=total.dtype)


def elected_sum(
    deltas: Array, weight: Array, votes: Array, *, normalize: bool, when_even: Array | float = 1.0
) -> Array:
    """Sum weight x delta over the models that agree with the elected sign (TIES, section 3 of arXiv:2306.01708).

    The sign is that of the sum of `votes` [models, *shape]; `when_even` where that sum is zero. With `normalize` the
    sum is divided by the sum of the agreeing models' |weight|, so that a negative weight subtracts (mergekit divides
    by the signed sum, which turns the update around).
    """
    xp = array_namespace(deltas)
    weights = along_models(weight, deltas)
    weighted = deltas * weights
    total = sum_models(votes)
    elected = xp.where(total == 0, xp.asarray(when_even, dtype=total.dtype), xp.sign(total))
    agrees = (weighted * elected) > 0
    zero = xp.zeros_like(weighted)
    merged = sum_models(xp.where(agrees, weighted, zero))
    if not normalize:
        return merged
    divisor = sum_models(xp.where(agrees, xp.abs(weights) + zero, zero))
    return merged / xp.where(divisor == 0, xp.ones_like(divisor), divisor)
