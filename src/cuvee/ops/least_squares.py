"""One matrix for all inputs: the τ that minimises Σᵢ ‖(τ − τᵢ)·Xᵢ‖², where only the Gram matrices of Xᵢ are known.

Its solution is τ = (Σᵢ τᵢGᵢ)(Σᵢ Gᵢ)⁺. Without data each task vector stands for its own inputs: Gᵢ = cᵢ·τᵢᵀτᵢ. It is
float64, but for large matrices of which `fitted` shows that less is enough: in float32 the Gram matrix of a task vector
of low rank has directions that are nothing but rounding errors, and dividing by them gives a result several times too
large.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.fitted import LEAST_SIZE, fitted
from cuvee.ops.matrices import in_double
from cuvee.ops.spectrum import CUT, spectrum
from cuvee.ops.work import Work, spectrum_work

_WELL_POSED = 1e-10
"""Below this part of the largest squared pivot, a system is solved by its eigenvalues."""


def fit_to_own_inputs(deltas: Array, factors: Sequence[float]) -> Array:
    """Return (Σ cᵢτᵢτᵢᵀτᵢ)(Σ cᵢτᵢᵀτᵢ)⁺ of `deltas` [models, out, in] with one factor c a model."""
    xp = array_namespace(deltas)
    models, out, size = deltas.shape
    if models * out < size:  # all rows lie in a small space: go there and come back
        rows = xp.reshape(deltas, (models * out, size))
        basis = spectrum(rows).right
        return fit_to_own_inputs(in_double(deltas) @ basis, factors) @ basis.T
    if isinstance(deltas, np.ndarray) and size >= LEAST_SIZE:
        found = fitted(deltas, factors)
        if found is not None:
            return found
    grams, goal = gram_and_goal(deltas, factors)
    return xp.linalg.matrix_transpose(solve_positive(grams, xp.linalg.matrix_transpose(goal)))


def gram_and_goal(deltas: Array, factors: Sequence[float]) -> tuple[Array, Array]:
    """Return Σ cᵢτᵢᵀτᵢ [in, in] and Σ cᵢτᵢτᵢᵀτᵢ [out, in], one model after the other."""
    grams = goal = None
    for i, factor in enumerate(factors):
        wide = in_double(deltas[i, ...])
        gram = factor * (wide.T @ wide)
        cubic = wide @ gram if wide.shape[0] >= wide.shape[1] else factor * ((wide @ wide.T) @ wide)
        grams = gram if grams is None else grams + gram
        goal = cubic if goal is None else goal + cubic
    return grams, goal


def fit_to_inputs(stack: Array, grams: Iterable[Array], factors: Sequence[float], off_diagonal: float) -> Array:
    """Return the W that minimises Σ cᵢ‖(W − Wᵢ)Xᵢ‖², as Gram matrices with off-diagonals times `off_diagonal` have it.

    The unknown is its distance from the mean of `stack` [models, out, in]: directions that no input has stay at
    the mean. `grams` [in, in] are taken one at a time.
    """
    xp = array_namespace(stack)
    mean = xp.mean(in_double(stack), axis=0)
    system = goal = None
    for i, gram in enumerate(grams):
        shrunk = factors[i] * (off_diagonal * gram + (1 - off_diagonal) * _diagonal_of(gram))
        product = (in_double(stack[i, ...]) - mean) @ shrunk
        system = shrunk if system is None else system + shrunk
        goal = product if goal is None else goal + product
    return mean + xp.linalg.matrix_transpose(solve_positive(system, xp.linalg.matrix_transpose(goal)))


def _diagonal_of(matrix: Array) -> Array:
    xp = array_namespace(matrix)
    return xp.eye(matrix.shape[0], dtype=matrix.dtype, device=matrix.device) * xp.linalg.diagonal(matrix)


def solve_positive(matrix: Array, right: Array) -> Array:
    """Return matrix⁺ · right for a symmetric matrix without negative eigenvalues.

    Directions whose eigenvalue is below the square of `CUT` of the largest are left out.
    """
    xp = array_namespace(matrix)
    if _is_well_posed(matrix):
        return xp.linalg.solve(matrix, right)
    values, vectors = xp.linalg.eigh(matrix)
    cut = float(xp.max(values)) * CUT * CUT if values.shape[0] else 0.0
    first = int(xp.count_nonzero(values <= max(cut, 0.0)))
    values, vectors = values[first:], vectors[:, first:]
    return (vectors / values) @ (vectors.T @ right)


def _is_well_posed(matrix: Array) -> bool:
    xp = array_namespace(matrix)
    if matrix.shape[0] == 0:
        return False
    try:
        pivots = xp.linalg.diagonal(xp.linalg.cholesky(matrix)) ** 2
    except (ArithmeticError, RuntimeError, ValueError):  # how the libraries say that an eigenvalue is not positive
        return False
    return float(xp.min(pivots)) > _WELL_POSED * float(xp.max(pivots))


def own_energy(deltas: Array) -> list[float]:
    """Return each task vector's squared norm."""
    xp = array_namespace(deltas)
    return [float(xp.sum(in_double(deltas[i, ...]) ** 2)) for i in range(deltas.shape[0])]


def fit_work(models: int, out: int, size: int) -> Work:
    """Return the work of `fit_to_own_inputs`, if the system is well posed; memory as if it were not."""
    if models * out < size:
        small, rows = models * out, spectrum_work(models * out, size, models * out)
        inner = _fit_work(models, out, small)
        there = Work(2.0 * (models + 1) * out * size * small, (), 0)
        return Work((rows + there).operations, rows.decompositions, rows.held) + inner
    return _fit_work(models, out, size)


def fit_to_inputs_work(models: int, out: int, size: int) -> Work:
    """Return the work of `fit_to_inputs`; memory as if the system were not well posed."""
    operations = (models + 2.0) * out * size * size + size**3
    return Work(operations, (), 6 * size * size + 5 * out * size)


def _fit_work(models: int, out: int, size: int) -> Work:
    small = min(out, size)
    grams = models * (out * size * size + 2.0 * out * size * small + small * small * out)
    solution = size**3 + 2.0 * size * size * out
    return Work(grams + solution, (), 7 * size * size + 4 * out * size)
