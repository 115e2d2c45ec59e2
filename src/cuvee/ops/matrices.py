"""Task vectors as matrices in float64, one at a time: there may be many, and they are large."""

from collections.abc import Iterator

import numpy as np

from cuvee.ops.arrays import Array, array_namespace


def in_double(array: Array) -> Array:
    """Return the array in float64, itself where it is."""
    xp = array_namespace(array)
    return xp.astype(array, xp.float64, copy=False)


def numbers(weight: Array, models: int) -> list[float]:
    """Return one number a model, given a number for all or for each."""
    listed: list[float] = np.broadcast_to(np.asarray(weight, np.float64), (models,)).tolist()
    return listed


def each_weighted(deltas: Array, weight: Array) -> Iterator[Array]:
    """Give wᵢτᵢ in float64 for each of `deltas` [models, out, in]."""
    for i, number in enumerate(numbers(weight, deltas.shape[0])):
        yield number * in_double(deltas[i, ...])


def weighted_total(deltas: Array, weight: Array) -> Array:
    """Return Σ wᵢτᵢ in float64, added up in the order of the models."""
    terms = each_weighted(deltas, weight)
    total = next(terms)
    for term in terms:
        total = total + term
    return total


def smaller_side(deltas: Array, full_rank: int | None) -> int:
    """Return the rank that a matrix can have: that of the whole, if the deltas are the cores of a small space."""
    return int(min(deltas.shape[1:])) if full_rank is None else full_rank
