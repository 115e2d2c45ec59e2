"""Singular values and directions of a matrix, from the eigenvalues of its smaller Gram matrix in float64.

That takes a fraction of the time of a singular value decomposition, on a processor and on a GPU. The price is
accuracy in directions far weaker than the strongest. Those at or below `CUT` of it are taken for zero: in a matrix
of low rank they are rounding errors, and a method that gives every direction the same strength would blow them up.
"""

from typing import NamedTuple

from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.inverse_root import inverse_root
from cuvee.ops.matrices import in_double

CUT = 1e-5
"""Singular values at or below this part of the largest count as zero."""


class Spectrum(NamedTuple):
    """A matrix as left · diag(values) · rightᵀ: [out, k], [k] with the largest first, [in, k], all float64."""

    left: Array
    values: Array
    right: Array

    @property
    def rank(self) -> int:
        return int(self.values.shape[0])


def spectrum(matrix: Array, most: int | None = None, *, floor: float = 0.0) -> Spectrum:
    """Return the singular values above `CUT` of the largest and above `floor`, `most` of them at the most."""
    if matrix.shape[0] > matrix.shape[1]:
        turned = spectrum(matrix.T, most, floor=floor)
        return Spectrum(turned.right, turned.values, turned.left)
    wide = in_double(matrix)
    values, left = _decomposed(wide @ wide.T, floor)
    if most is not None:
        values, left = values[:most], left[:, :most]
    return Spectrum(left, values, (wide.T @ left) / values)


def left_directions(matrix: Array, most: int) -> tuple[Array, Array]:
    """Return the `most` strongest singular values and left directions of a matrix that is no taller than wide."""
    wide = in_double(matrix)
    values, left = _decomposed(wide @ wide.T)
    return values[:most], left[:, :most]


def polar(matrix: Array) -> Array:
    """Return the matrix with every singular value that is not zero made 1: the nearest partial isometry."""
    if matrix.shape[0] > matrix.shape[1]:
        return polar(matrix.T).T
    wide = in_double(matrix)
    values, left = _decomposed(wide @ wide.T)
    return _squared(left, 1 / values) @ wide


def isotropic(matrix: Array) -> Array:
    """Return the matrix with every singular value that is not zero made their mean, in the matrix's own type.

    Of a float32 matrix only the last product is float32: it adds up well-scaled numbers. Of a large one whose singular
    values are of like size, more is.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return isotropic(matrix.T).T
    xp = array_namespace(matrix)
    root = inverse_root(matrix)
    if root is not None:
        return (root.matrix * root.values.mean()) @ matrix
    wide = in_double(matrix)
    values, left = _decomposed(wide @ wide.T)
    if values.shape[0] == 0:
        return matrix
    return xp.astype(_squared(left, xp.mean(values) / values), matrix.dtype) @ matrix


def low_rank(matrix: Array, most: int) -> Array:
    """Return the nearest matrix of rank `most` or less."""
    if matrix.shape[0] > matrix.shape[1]:
        return low_rank(matrix.T, most).T
    wide = in_double(matrix)
    _, left = _decomposed(wide @ wide.T)
    return left[:, :most] @ (left[:, :most].T @ wide)


def _squared(vectors: Array, factors: Array) -> Array:
    """Return V · diag(factors) · Vᵀ for factors above zero. Of a matrix times its own transpose half is calculated."""
    half = vectors * array_namespace(vectors).sqrt(factors)
    return half @ half.T


def _decomposed(gram: Array, floor: float = 0.0) -> tuple[Array, Array]:
    """Return (singular values, left singular vectors) of the matrix of which `gram` is M·Mᵀ, without those of zero."""
    xp = array_namespace(gram)
    if gram.shape[0] == 0:
        return gram[0:0, 0:0].reshape((0,)), gram
    squares, vectors = xp.linalg.eigh(gram)
    squares, vectors = xp.flip(squares), xp.flip(vectors, axis=1)
    cut = max(float(squares[0]) * CUT * CUT, floor * floor, 0.0)
    kept = int(xp.count_nonzero(squares > cut))
    return xp.sqrt(squares[:kept]), vectors[:, :kept]
