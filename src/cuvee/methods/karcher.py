"""The Karcher mean: the point on the sphere with the least sum of squared angles to the models.

Everything happens in the span of the models: the mean of the unit vectors uᵢ is Σ aᵢ uᵢ, and all angles follow from the
inner products of the uᵢ. Of the weights mergekit knows only equal weights.
"""

from typing import Annotated, Any

import numpy as np

from cuvee.method import Gram, PerModel, coefficient_method
from cuvee.ops.arrays import Array
from cuvee.ops.stepwise import Run, Steps, Stepwise
from cuvee.recipe.setting import Range


def _in_steps(s: Steps, *, weight: Any, max_iter: int, tol: float) -> Run:
    weights = np.asarray(weight, np.float64) / np.sum(weight)
    lengths = yield from s.length(s.models)
    long = np.flatnonzero(lengths > tol)
    pull = weights[long] / weights[long].sum()
    if not np.isfinite(pull).all() or long.size == 0:
        return s.rounded((s.models * weights[:, None]).sum(axis=0))
    units = s.rounded(s.models[long] / lengths[long])
    mean = _sum_in_steps(s, pull, units)
    length = yield from s.length(mean)
    mean = s.kept(units[0] if length < tol else s.rounded(mean / length))
    for _ in range(max_iter):
        toward = np.clip(s.rounded((yield from s.inner(units, mean))), -1, 1)
        angles = s.rounded(np.arccos(toward))
        apart = np.flatnonzero(angles >= tol)
        stretch = s.rounded(pull[apart, None] * s.rounded(angles[apart] / s.rounded(np.sin(angles[apart]))))
        step = _sum_in_steps(s, stretch[:, 0], s.rounded(units[apart] - s.rounded(toward[apart] * mean)))
        length = yield from s.length(step)
        if length < tol:
            break
        turned = s.rounded(s.rounded(np.cos(length)) * mean)
        mean = s.rounded(turned + s.rounded(s.rounded(np.sin(length)) * s.rounded(step / length)))
        length = yield from s.length(mean)
        mean = s.kept(s.rounded(mean / length) if length > tol else mean)
    return s.rounded(s.rounded((weights[:, None] * lengths).sum()) * mean)


def _sum_in_steps(s: Steps, factors: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    total: np.ndarray = np.zeros_like(s.models[0])
    for factor, vector in zip(factors, vectors, strict=True):
        total = s.rounded(total + s.rounded(np.float32(factor) * vector))
    return total


@coefficient_method(
    "karcher",
    paper="arXiv:2603.04972",
    formula="m Σ wᵢ ‖θᵢ‖,  m = argmin Σ wᵢ ∠(θᵢ, m)² on the unit sphere",
    reproducible="tolerance",
    stepwise=Stepwise(_in_steps, lambda settings: 2 + 3 * settings["max_iter"]),
)
def karcher(
    *,
    weight: Annotated[PerModel, Range(0)] = 1.0,
    max_iter: Annotated[int, Range(0)] = 10,
    tol: Annotated[float, Range(0, open_low=True)] = 1e-5,
    gram: Gram,
) -> Array:
    """Average the models on the sphere, and their lengths; a base model takes part like the others.

    Stops after `max_iter` rounds, or when a step is shorter than `tol`. Models not longer than `tol` have no direction
    and count only for the length.
    """
    weights = np.asarray(weight, np.float64)
    if weights.sum() <= 0:
        raise ValueError("the weights sum to zero")
    weights = weights / weights.sum()
    lengths = np.sqrt(gram.diagonal())
    long = lengths > tol
    inverse = np.where(long, 1 / np.where(long, lengths, 1), 0)
    pull = np.where(long, weights, 0)
    if pull.sum() == 0:
        return weights
    cosines = gram * inverse * inverse[:, None]
    mean = _mean_on_sphere(cosines, pull / pull.sum(), max_iter, tol)
    return mean * inverse * (weights * lengths).sum()


def _mean_on_sphere(cosines: np.ndarray, pull: np.ndarray, max_iter: int, tol: float) -> np.ndarray:
    mean = _shortened(cosines, pull)
    if _length(cosines, pull) < tol:
        mean = np.eye(len(pull))[np.flatnonzero(pull)[0]]
    for _ in range(max_iter):
        toward = np.clip(_product(cosines, mean), -1, 1)
        angles = np.arccos(toward)
        apart = (angles >= tol) & (np.sin(angles) > 0)
        stretch = np.where(apart, pull * angles / np.where(apart, np.sin(angles), 1), 0)
        step = stretch - (stretch * toward).sum() * mean
        length = _length(cosines, step)
        if length < tol:
            break
        mean = _shortened(cosines, np.cos(length) * mean + np.sin(length) / length * step)
    return mean


def _shortened(cosines: np.ndarray, point: np.ndarray) -> np.ndarray:
    length = _length(cosines, point)
    return point / length if length > 0 else point


def _length(cosines: np.ndarray, point: np.ndarray) -> float:
    return float(np.sqrt(max((point * _product(cosines, point)).sum(), 0.0)))


def _product(cosines: np.ndarray, point: np.ndarray) -> np.ndarray:
    # not `@`: a BLAS may add in another order on another machine
    return np.asarray((cosines * point).sum(axis=1))
