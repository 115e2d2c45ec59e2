"""The algebra of low-rank matrices: bases, cores, recompression. Small matrices are decomposed, never the dense change.

A sum of products is a product of what stands side by side: Σ Bᵢ Aᵢ = [B₁ … B_N] [A₁; …; A_N]. With orthonormal bases
U of the left and V of the right sides, the change is U M Vᵀ with a small core M, and the best approximation of the
change by rank is that of the core (Eckart and Young). In float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CUT = 1e-7
"""Directions weaker than this part of the strongest one are taken for rounding errors of float32."""

WELL_CONDITIONED = 1000.0
"""Ratio of the strongest to the weakest direction up to which a Gram matrix says all that is needed."""

OVERSAMPLED = 16
ROUNDS = 4
"""Of the randomised decomposition: columns beyond the rank, and how often they are purified."""


@dataclass(frozen=True)
class Product:
    """A matrix as left [rows, rank] @ right [rank, columns]."""

    left: np.ndarray
    right: np.ndarray

    @property
    def rank(self) -> int:
        return int(self.right.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[0], self.right.shape[1]

    def rows(self, low: int, high: int) -> np.ndarray:
        """Return rows [low, high) of the matrix."""
        return np.asarray(self.left[low:high] @ self.right)


@dataclass(frozen=True)
class Basis:
    """An orthonormal basis [rows, k] of what stands side by side, the strongest direction first, and the coordinates
    [k, rank] of each in it. Directions of rounding errors have coordinates of zero."""

    directions: np.ndarray
    coordinates: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Kept:
    """A compressed change: its two factors with the strength shared between them, and how much energy they hold.

    Energy is the squared norm. `values` are the singular values that were kept.
    """

    product: Product
    values: np.ndarray
    energy: float
    total: float

    @property
    def share(self) -> float:
        """The part of the energy that was kept; all of nothing is 1."""
        return min(self.energy / self.total, 1.0) if self.total > 0 else 1.0


@dataclass(frozen=True)
class Wanted:
    """To which rank to compress: at most `rank`, and no more than the part `energy` of the energy needs."""

    rank: int | None = None
    energy: float | None = None


def basis_of(parts: Sequence[np.ndarray]) -> Basis:
    """Return an orthonormal basis of the columns of `parts` [rows, rank] each."""
    together = np.concatenate([np.asarray(part, np.float64) for part in parts], axis=1)
    directions, strengths, mixture = _well_conditioned(together) or _ill_conditioned(together)
    ends = np.cumsum([part.shape[1] for part in parts])[:-1]
    coordinates = np.split(strengths[:, None] * mixture, ends, axis=1)
    return Basis(directions, tuple(coordinates))


_Decomposed = tuple[np.ndarray, np.ndarray, np.ndarray]


def _well_conditioned(matrix: np.ndarray) -> _Decomposed | None:
    """Return (U, σ, Vᵀ) from the eigenvalues of MᵀM, in a third of the time; None where that would be inaccurate.

    The error of the directions is that of float64 times the square of σ₁ / σₖ.
    """
    if matrix.shape[0] < matrix.shape[1] or not matrix.size:
        return None
    squares, vectors = np.linalg.eigh(matrix.T @ matrix)
    if squares[0] <= squares[-1] / WELL_CONDITIONED**2:
        return None
    strengths, mixture = np.sqrt(squares[::-1]), vectors[:, ::-1]
    return matrix @ (mixture / strengths), strengths, mixture.T


def _ill_conditioned(matrix: np.ndarray) -> _Decomposed:
    """Return (U, σ, Vᵀ) by QR and the decomposition of the triangle; what is below `CUT` is taken for zero."""
    orthogonal, triangle = np.linalg.qr(matrix)
    turn, strengths, mixture = np.linalg.svd(triangle, full_matrices=False)
    kept = np.where(strengths > CUT * strengths.max(initial=0.0), strengths, 0.0)
    return orthogonal @ turn, kept, mixture


def joined(products: Sequence[Product], weights: Sequence[float]) -> Kept | None:
    """Put a weighted sum of products side by side; None where it may be of a lower rank than all of them together.

    It is not where both sides have directions of their own throughout, by their Gram matrices. Nothing is rounded.
    """
    lefts, rights = [], []
    for product, weight in zip(products, weights, strict=True):
        if not weight:
            continue
        share = float(np.sqrt(abs(weight)))
        lefts.append(product.left * (weight / share))
        rights.append(product.right * share)
    if not lefts:
        return None
    product = Product(np.concatenate(lefts, axis=1), np.concatenate(rights))
    if product.rank == 0:
        return None
    if product.rank > min(product.shape):
        return None
    grams = product.left.T @ product.left, product.right @ product.right.T
    for gram in grams:
        squares = np.linalg.eigvalsh(gram)
        if squares[0] <= squares[-1] / WELL_CONDITIONED**2:
            return None
    energy = float((grams[0] * grams[1]).sum())
    return Kept(product, np.zeros(0), energy, energy)


def compressed(matrix: np.ndarray, wanted: Wanted, left: np.ndarray | None, right: np.ndarray | None) -> Kept:
    """Compress left @ matrix @ rightᵀ, where `left` and `right` are orthonormal bases; without one, the identity."""
    total = float(np.square(matrix, dtype=np.float64).sum())
    rows, values, columns = singular(matrix, wanted.rank if wanted.energy is None else None)
    count = _count(values, total, wanted)
    rows, values, columns = rows[:, :count], values[:count], columns[:count]
    root = np.sqrt(values)
    start, end = rows * root, columns * root[:, None]
    if left is not None:
        start = left @ start
    if right is not None:
        end = end @ right.T
    return Kept(Product(start, end), values, float(np.square(values).sum()), total)


def singular(matrix: np.ndarray, most: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (U, σ, Vᵀ). Of a large matrix of which few directions are wanted, those by a randomised search."""
    rows, columns = matrix.shape
    wide = np.asarray(matrix, np.float64)
    if most is not None and most + OVERSAMPLED < min(rows, columns) // 4:
        return _strongest(wide, most)
    if columns > 2 * rows:
        orthogonal, triangle = np.linalg.qr(wide.T)
        turn, values, right = np.linalg.svd(triangle.T, full_matrices=False)
        return turn, values, right @ orthogonal.T
    if rows > 2 * columns:
        turn, values, right = singular(wide.T)
        return right.T, values, turn.T
    found = np.linalg.svd(wide, full_matrices=False)
    return found.U, found.S, found.Vh


def _strongest(matrix: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the strongest directions from random mixtures of the columns (Halko, Martinsson and Tropp 2011)."""
    mixture = np.random.default_rng(0).standard_normal((matrix.shape[1], most + OVERSAMPLED))
    found, _ = np.linalg.qr(matrix @ mixture)
    for _ in range(ROUNDS):
        back, _ = np.linalg.qr(matrix.T @ found)
        found, _ = np.linalg.qr(matrix @ back)
    turn, values, right = singular(found.T @ matrix)
    return found @ turn, values, right


def _count(values: np.ndarray, total: float, wanted: Wanted) -> int:
    """Return how many directions to keep: none of rounding errors, no more than the rank, just enough energy."""
    real = int(np.count_nonzero(values > CUT * values.max(initial=0.0)))
    most = real if wanted.rank is None else min(real, wanted.rank)
    if wanted.energy is None or total == 0:
        return most
    enough = int(np.searchsorted(np.cumsum(np.square(values)), wanted.energy * total * (1 - 1e-12))) + 1
    return min(most, enough)
