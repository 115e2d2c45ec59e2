"""Large symmetric positive systems by a blocked Cholesky factorisation, in place and in the matrix's own type.

NumPy factors in float64 whatever it is given, at a third of the speed of products, and has no solution by triangles. In
blocks nearly all of it is products.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_BLOCK = 256
_POWERS = 6


@dataclass(frozen=True)
class Factor:
    """The lower triangle L of a matrix L·Lᵀ, and the inverses of its diagonal blocks. Above the diagonal is garbage."""

    lower: np.ndarray
    inverses: tuple[np.ndarray, ...]

    def solve(self, rows: np.ndarray) -> np.ndarray:
        """Replace `rows` [m, n] by rows · (L·Lᵀ)⁻¹, in place."""
        for place, inverse in zip(_places(len(self.lower)), self.inverses, strict=True):
            if place.start:
                rows[:, place] -= rows[:, : place.start] @ self.lower[place, : place.start].T
            rows[:, place] = rows[:, place] @ inverse.T
        for place, inverse in zip(_places(len(self.lower))[::-1], self.inverses[::-1], strict=True):
            if place.stop < len(self.lower):
                rows[:, place] -= rows[:, place.stop :] @ self.lower[place.stop :, place]
            rows[:, place] = rows[:, place] @ inverse
        return rows

    def strongest_inverse(self) -> float:
        """Return about 1 / the smallest eigenvalue of the matrix."""
        return largest_eigenvalue(self.solve, len(self.lower), self.lower.dtype)

    def is_well_posed(self, least: float) -> bool:
        """Say whether no squared pivot is below `least` of the largest."""
        pivots = np.diagonal(self.lower) ** 2
        return float(pivots.min()) > least * float(pivots.max())


def largest_eigenvalue(
    times: Callable[[np.ndarray], np.ndarray], size: int, dtype: np.dtype, *, powers: int = _POWERS
) -> float:
    """Return about the largest eigenvalue of a symmetric matrix, given what multiplies rows [m, size] by it."""
    rows = np.random.default_rng(0).standard_normal((1, size)).astype(dtype)
    largest = 0.0
    for _ in range(powers):
        rows = times(rows / np.linalg.norm(rows))
        largest = float(np.linalg.norm(rows))
    return largest


def factored(matrix: np.ndarray) -> Factor | None:
    """Factor a symmetric matrix, in its own memory; None if it has an eigenvalue that is not positive."""
    inverses = []
    try:
        for place in _places(len(matrix)):
            below = slice(place.start, None)
            if place.start:
                matrix[below, place] -= matrix[below, : place.start] @ matrix[place, : place.start].T
            corner = np.linalg.cholesky(matrix[place, place])
            inverse = np.linalg.inv(corner)
            matrix[place, place] = corner
            matrix[place.stop :, place] = matrix[place.stop :, place] @ inverse.T
            inverses.append(inverse)
    except np.linalg.LinAlgError:
        return None
    return Factor(matrix, tuple(inverses))


def _places(size: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, size)) for start in range(0, size, _BLOCK)]
