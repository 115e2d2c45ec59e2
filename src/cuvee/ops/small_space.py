"""The small space that task vectors of low rank live in, such as those of adapters that were added to the weights.

A method that treats all directions alike gives the same there as in the whole matrix, in a fraction of the time. And
the errors of rounding the weights to 16 bits, a little in every direction, stay outside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.matrices import in_double
from cuvee.ops.spectrum import CUT, Spectrum, spectrum

_FIRST_GUESS = 16
_OVERSAMPLED = 8
_LARGEST_PART = 4
"""A rank above a quarter of the largest possible one gains nothing."""

_MARGIN = 2
"""Rounding errors may have so many times the energy that is expected of them."""


@dataclass(frozen=True)
class SmallSpace:
    """Orthonormal bases [out, R] and [in, S], and the task vectors between them: `cores` [models, R, S]."""

    left: Array
    right: Array
    cores: Array

    def lifted(self, core: Array) -> Array:
        """Return a matrix of the small space as a matrix of the whole."""
        return self.left @ core @ self.right.T


def small_space(deltas: Array, rounding: Sequence[float] = ()) -> SmallSpace | None:
    """Return the space of `deltas` [models, out, in], or None if any of them is not of low rank.

    `rounding` has for each the energy (squared norm) of the errors that rounding its numbers has made.
    """
    models = range(deltas.shape[0])
    parts: list[Spectrum] = []
    for i in models:
        part = recognised(deltas[i, ...], rounding[i] if rounding else 0.0)
        if part is None:
            return None
        parts.append(part)
    return joined(parts)


def joined(parts: Sequence[Spectrum]) -> SmallSpace:
    """Return the space that holds all of several matrices, given by their singular values and directions."""
    xp = array_namespace(parts[0].left)
    left = spectrum(xp.concat([part.left for part in parts], axis=1)).left
    right = spectrum(xp.concat([part.right for part in parts], axis=1)).left
    cores = [(left.T @ part.left * part.values) @ (part.right.T @ right) for part in parts]
    return SmallSpace(left, right, xp.stack(cores))


def recognised(matrix: Array, rounding: float = 0.0) -> Spectrum | None:
    """Return the singular values and directions of a matrix of low rank, without rounding errors; None for others.

    Directions count if they are stronger than rounding errors of that energy, spread evenly, can make them; and the
    matrix is of low rank if the rest has no more energy than such errors. The search looks at a few random
    mixtures of the columns and goes on to more while the energy found says that the rank may be low.
    """
    xp = array_namespace(matrix)
    limit = min(matrix.shape) // _LARGEST_PART
    total = _energy(matrix)
    if total == 0:
        wide = in_double(matrix)
        return Spectrum(wide[:, :0], wide[0, :0], wide.T[:, :0])
    guess = min(_FIRST_GUESS, limit)
    while guess >= 1:
        width = guess + _OVERSAMPLED
        found = _strongest(matrix, width)
        kept = _above_rounding(found, matrix.shape, rounding)
        left = total - float(xp.sum(kept.values**2))
        if 1 <= kept.rank <= guess and left <= _MARGIN * rounding + (CUT * float(found.values[0])) ** 2:
            return kept
        captured = float(xp.sum(found.values**2)) / total
        if guess == limit or width / captured > limit:  # the other directions are weaker than these, so there are more
            return None
        guess = min(4 * guess, limit)
    return None


def _strongest(matrix: Array, width: int) -> Spectrum:
    """Return about the strongest `width` directions, found from random mixtures of the columns, twice purified."""
    xp = array_namespace(matrix)
    wide = in_double(matrix)
    mixture = xp.asarray(_mixture(wide.shape[1], min(width, *wide.shape)), device=wide.device)
    basis, _ = xp.linalg.qr(wide @ mixture)
    basis, _ = xp.linalg.qr(wide @ (wide.T @ basis))
    inside = spectrum(basis.T @ wide)
    return Spectrum(basis @ inside.left, inside.values, inside.right)


@cache
def _mixture(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, columns))


def _above_rounding(found: Spectrum, shape: tuple[int, int], rounding: float) -> Spectrum:
    """Leave out the reach of evenly spread errors: their largest singular value is (√out + √in) times their rms."""
    xp = array_namespace(found.values)
    out, size = shape
    floor = (out**0.5 + size**0.5) * (_MARGIN * rounding / (out * size)) ** 0.5
    kept = int(xp.count_nonzero(found.values > floor))
    return Spectrum(found.left[:, :kept], found.values[:kept], found.right[:, :kept])


def _energy(matrix: Array) -> float:
    xp = array_namespace(matrix)
    return float(xp.sum(in_double(matrix) ** 2))
