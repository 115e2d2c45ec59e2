"""Which directions changes take in a matrix, and in how many: sketches that add up over rows, so one read is enough.

For a change D [out, in] and Gaussian probes P [in, probes], the same for every model, the sketch is Y = DᵀDP, which is
[in, probes] (N. Halko, P.-G. Martinsson, J. A. Tropp, SIAM Review 53, 2011, section 4.5, with one step of power). From
it come

- the leading directions of the inputs: the first left singular vectors of Y;
- the effective rank (Σσ²)² / Σσ⁴ over the singular values σ of D: the numerator is ‖D‖⁴, and the denominator, which is
  ‖DᵀD‖², is estimated by the mean of ‖DᵀDp‖² over the probes. It is n for n equal singular values, and 1 for one.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

PROBES = 32
"""Columns of a sketch. An effective rank is then within about a sixth, one matrix alone, and much less over many."""

LEADING = 8
"""Directions of each matrix that are compared."""

LEAST = 2 * LEADING
"""Rows and columns that a matrix must have: in smaller ones any two sets of directions overlap."""


@lru_cache(maxsize=32)
def probes(inputs: int) -> np.ndarray:
    """Return the probes of matrices with so many inputs [inputs, PROBES], the same in every run."""
    return np.random.default_rng(inputs).standard_normal((inputs, PROBES)).astype(np.float32)


def sketch_of(stack: np.ndarray, inputs: int) -> np.ndarray:
    """Return the sketches of some whole rows of all models [1 + models, rows · inputs], the base first.

    They are [models, inputs, PROBES] in float64, and add up to those of the matrix.
    """
    rows = stack.astype(np.float32).reshape(len(stack), -1, inputs)
    deltas = rows[1:] - rows[0]
    products: np.ndarray = (deltas.transpose(0, 2, 1) @ (deltas @ probes(inputs))).astype(np.float64)
    return products


def effective_rank(sketch: np.ndarray, squared_norm: float) -> float:
    """Return the effective rank of a change from its sketch [inputs, PROBES] and its squared norm, above 0."""
    fourth_powers = float(np.square(sketch).sum()) / PROBES
    return max(1.0, squared_norm**2 / fourth_powers)


def leading_directions(sketch: np.ndarray) -> np.ndarray:
    """Return orthonormal directions of a change's inputs [inputs, LEADING]."""
    left: np.ndarray = np.linalg.svd(sketch, full_matrices=False)[0]
    return left[:, :LEADING]


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean squared cosine of the principal angles between two sets of directions, from 0 to 1.

    Random directions of n inputs overlap by LEADING / n.
    """
    return float(np.square(first.T @ second).sum() / LEADING)


def is_sketched(shape: Sequence[int]) -> bool:
    """Say whether a tensor of this shape is a matrix, or a stack of them, that is large enough to have directions."""
    if len(shape) < 2:
        return False
    rows = int(np.prod(shape[:-1]))
    return rows >= LEAST and shape[-1] >= LEAST
