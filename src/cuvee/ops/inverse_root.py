"""(M·Mᵀ)^-½ of a large float32 matrix M in float32, where its singular values are of like size.

`numpy.linalg.eigh` calculates in float64 whatever it is given, which takes twice as long. The same routine in float32
is near enough where the strongest direction is not much stronger than the weakest. A few random vectors tell
beforehand whether that seems so, and afterwards whether it was.
"""

from typing import NamedTuple

import numpy as np

from cuvee.ops.arrays import Array
from cuvee.ops.cholesky import largest_eigenvalue

LEAST_SIZE = 512
"""Of smaller matrices float64 costs little."""

_SQUARE = 2 / 3
"""Matrices that are this nearly square have directions that are far weaker than the others."""

_EVEN = 2.0
"""The mean square of the eigenvalues of M·Mᵀ over the square of their mean, above which float32 is not tried."""

_CONDITION = 50.0
"""The largest eigenvalue of M·Mᵀ over about the smallest, above which float32 is not tried."""

_TOLERANCE = 8e-6
"""The largest distance of Z·M·Mᵀ·Z·v from a random v, relative to v. Z·M is about half as far off."""

_VECTORS = 4
_POWERS = 30


class InverseRoot(NamedTuple):
    """(M·Mᵀ)^-½ [n, n], and the singular values of M [n], the weakest first, all float32."""

    matrix: np.ndarray
    values: np.ndarray


def inverse_root(matrix: Array) -> InverseRoot | None:
    """Return (M·Mᵀ)^-½ of M [n, m]; None where float32 is not near enough, or M is another kind of array, or small."""
    if not is_tried(matrix, *matrix.shape) or not _is_even(matrix):
        return None
    gram = matrix @ matrix.T
    if not _is_well_posed(gram):
        return None
    squares, vectors = _eigenvectors(gram)
    if not squares[0] > 0:
        return None
    half = vectors * squares**-0.25
    root = half @ half.T
    return InverseRoot(root, np.sqrt(squares)) if _is_near_enough(matrix, root) else None


def is_tried(like: Array, rows: int, columns: int) -> bool:
    """Say whether a matrix of that shape, of the library and type of `like`, is tried in float32."""
    is_single = isinstance(like, np.ndarray) and like.dtype == np.float32
    return is_single and LEAST_SIZE <= rows <= _SQUARE * columns


def _is_even(matrix: np.ndarray) -> bool:
    """Say whether the singular values seem to be of like size; not so if float32 cannot hold their fourth powers."""
    energy = float(np.vdot(matrix, matrix))
    if not 1e-12 < energy < 1e12:
        return False
    vectors = _random_vectors(len(matrix)) * np.float32(len(matrix) ** 0.5)
    mixtures = (vectors @ matrix) @ matrix.T
    return float(np.vdot(mixtures, mixtures)) / _VECTORS * len(matrix) < _EVEN * energy**2


def _is_well_posed(gram: np.ndarray) -> bool:
    """Say whether the smallest eigenvalue seems to be near enough to the largest. It is smaller than it seems."""
    largest = 1.1 * largest_eigenvalue(lambda rows: rows @ gram, len(gram), gram.dtype)
    below = largest_eigenvalue(lambda rows: largest * rows - rows @ gram, len(gram), gram.dtype, powers=_POWERS)
    return largest < _CONDITION * (largest - below)


def _eigenvectors(symmetric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues, the smallest first, and eigenvectors, found in float32 where this NumPy has a way to."""
    routine = getattr(getattr(np.linalg, "_umath_linalg", None), "eigh_lo", None)
    if routine is None:
        return np.linalg.eigh(symmetric)
    values, vectors = routine(symmetric, signature="f->ff")
    return values, vectors


def _is_near_enough(matrix: np.ndarray, root: np.ndarray) -> bool:
    """Say whether Z·M·Mᵀ·Z is the identity. Of symmetric positive Z only the inverse root does that."""
    vectors = _random_vectors(len(matrix))
    left = (((vectors @ root) @ matrix) @ matrix.T) @ root - vectors
    return float(np.linalg.norm(left, axis=1).max()) <= _TOLERANCE


def _random_vectors(size: int) -> np.ndarray:
    """Return vectors of length 1 [vectors, size]."""
    vectors = np.random.default_rng(0).standard_normal((_VECTORS, size), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors
