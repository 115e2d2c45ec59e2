"""The fit of `least_squares` to own inputs for large matrices in memory: the same solution, in less time and memory.

It looks for the distance from the last task vector, which takes a product less, and solves by a blocked Cholesky
factorisation. Matrices with no more inputs than outputs are first tried in float32: where the errors of a few random
mixtures of the rows, found in float64, show that this is not near enough, and for all others, it is done in float64.
"""

from collections.abc import Sequence

import numpy as np

from cuvee.ops.cholesky import Factor, factored, largest_eigenvalue

LEAST_SIZE = 512
"""Of smaller matrices float64 costs nothing."""

_TOLERANCE = 5e-6
"""The largest error that float32 may make, relative to the largest entry."""

_WELL_POSED = 1e-10
"""Below this part of the largest squared pivot, a system is solved by its eigenvalues."""

_EVEN = 300.0
"""Where the largest eigenvalue of a system is more than this many times the smallest, float32 is not tried."""

_MIXTURES = 4
_REFINED = 3
_EXTREME = 2.0
"""An entry may have this many times the error of the worst of a few mixtures of all rows."""

_ROWS = 512
"""Rows of a matrix that are converted to float64 at once."""


def fitted(deltas: np.ndarray, factors: Sequence[float]) -> np.ndarray | None:
    """Return the fit of `deltas` [models, out, in] in float32 or float64; None if the system is not well posed."""
    out, size = deltas.shape[1:]
    energies = [factor * float(np.vdot(delta, delta)) for factor, delta in zip(factors, deltas, strict=True)]
    unit = max(energies, default=0.0) / size
    if not unit > 0:
        return None
    shares = [factor / unit for factor in factors]  # the system's numbers are then near 1, which float32 needs
    if deltas.dtype == np.float32 and out >= size:
        found = _in_single(deltas, shares)
        if found is not None:
            return found
    return _in_double(deltas, shares)


def _in_single(deltas: np.ndarray, shares: Sequence[float]) -> np.ndarray | None:
    """Return the fit in float32; None where that is not near enough, which the factor shows before most of the work."""
    grams = [np.float32(share) * (delta.T @ delta) for delta, share in zip(deltas, shares, strict=True)]
    system = sum(grams[1:], start=grams[0].copy())
    strongest = _strongest(system)
    factor = factored(system)
    if factor is None or not strongest * factor.strongest_inverse() <= _EVEN:
        return None
    goal = np.zeros_like(deltas[-1])
    for delta, gram in zip(deltas[:-1], grams[:-1], strict=True):
        goal += (delta - deltas[-1]) @ gram
    solution = factor.solve(goal)
    solution += deltas[-1]
    return solution if _is_near_enough(deltas, shares, solution, factor) else None


def _in_double(deltas: np.ndarray, shares: Sequence[float]) -> np.ndarray | None:
    """Return the fit in float64; None if the system is not well posed."""
    last = deltas[-1].astype(np.float64)
    goal = np.zeros_like(last)
    system = np.zeros((last.shape[1], last.shape[1]))
    for i, share in enumerate(shares):
        own = deltas[i].astype(np.float64)
        gram = own.T @ own
        gram *= share
        system += gram
        if i < len(shares) - 1:
            goal += _distance_at_inputs(own, last, gram, share)
        del own, gram
    factor = factored(system)
    if factor is None or not factor.is_well_posed(_WELL_POSED):
        return None
    solution = factor.solve(goal)
    solution += last
    return solution


def _distance_at_inputs(own: np.ndarray, last: np.ndarray, gram: np.ndarray, share: float) -> np.ndarray:
    """Return (τᵢ - τ_last)·Gᵢ, with Gᵢ or by way of the smaller side."""
    distance = own - last
    if own.shape[0] >= own.shape[1]:
        return np.asarray(distance @ gram)
    across = distance @ own.T
    across *= share
    return np.asarray(across @ own)


def _strongest(symmetric: np.ndarray) -> float:
    """Return about the largest eigenvalue."""
    return largest_eigenvalue(lambda rows: rows @ symmetric, len(symmetric), symmetric.dtype)


def _is_near_enough(deltas: np.ndarray, shares: Sequence[float], found: np.ndarray, factor: Factor) -> bool:
    """Say whether a float32 solution is: a few mixtures of its rows are corrected in float64 until they are exact."""
    mixtures = np.random.default_rng(0).standard_normal((_MIXTURES, found.shape[0]))
    mixtures /= np.linalg.norm(mixtures, axis=1, keepdims=True)
    before = _mixed(mixtures, found)
    goal = np.zeros_like(before)
    for delta, share in zip(deltas, shares, strict=True):
        goal += _through(_mixed(mixtures, delta), delta, share)
    exact = before
    for _ in range(_REFINED):
        left = goal.copy()
        for delta, share in zip(deltas, shares, strict=True):
            left -= _through(exact, delta, share)
        correction = factor.solve(left.astype(np.float32)).astype(np.float64)
        exact = exact + correction
    allowed = _TOLERANCE * float(np.abs(found).max())
    is_settled = float(np.abs(correction).max()) <= allowed / 10
    return is_settled and _EXTREME * float(np.abs(exact - before).max()) <= allowed


def _mixed(mixtures: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return mixtures · matrix in float64, without all of the matrix in float64."""
    total = np.zeros((len(mixtures), matrix.shape[1]))
    for start in range(0, matrix.shape[0], _ROWS):
        total += mixtures[:, start : start + _ROWS] @ matrix[start : start + _ROWS].astype(np.float64)
    return total


def _through(rows: np.ndarray, delta: np.ndarray, share: float) -> np.ndarray:
    """Return rows · share·τᵀτ in float64."""
    total = np.zeros_like(rows)
    for start in range(0, delta.shape[0], _ROWS):
        part = delta[start : start + _ROWS].astype(np.float64)
        total += (rows @ part.T) @ part
    return share * total
