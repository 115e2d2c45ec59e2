"""The Gram matrix of a stack, and geometry in the span of its rows: nothing here needs the tensors again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import to_device

from cuvee.kernels import Block
from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.survey import Constant, Fold, Run, Scope, Situation, Survey, of_one_tensor, row_length, summing


def gram_of(scope: Callable[[str, Mapping[str, Any]], Scope], reads: tuple[str, ...] = ()) -> Survey:
    """Make a survey of the models' inner products over what `scope` says: [models, models], in float64 and in NumPy.

    By rows or columns it is [rows or columns, models, models]. These matrices are tiny, and the numbers from them are
    worked out on the host.
    """

    def run(s: Situation) -> Run:
        over = scope(s.semantics, s.settings)
        if over == "row":
            return _RowGrams(s.row)
        if over == "column":
            matrices, _, columns = as_matrices(s.shape)
            return Constant(np.reshape((yield _column_grams(s)), (matrices * columns, s.models, s.models)))

        def add(sums: np.ndarray, block: Block) -> None:
            block.kernels.gram(block, sums)

        return Constant((yield summing(s.models, add, (s.models,))))

    def whole(stack: Array, s: Situation) -> Array:
        xp = array_namespace(stack)
        wide = xp.astype(stack, xp.float64)
        over = scope(s.semantics, s.settings)
        if over == "row":
            vectors = xp.permute_dims(xp.reshape(wide, (s.models, -1, s.row)), (1, 0, 2))
        elif over == "column":
            matrices, rows, columns = as_matrices(s.shape)
            each = xp.permute_dims(xp.reshape(wide, (s.models, matrices, rows, columns)), (1, 3, 0, 2))
            vectors = xp.reshape(each, (matrices * columns, s.models, rows))
        else:
            vectors = xp.reshape(wide, (s.models, -1))
        return np.asarray(to_device(vectors @ xp.matrix_transpose(vectors), "cpu"))

    return Survey(
        run=run,
        whole=whole,
        scope=scope,
        passes=lambda semantics, settings: int(scope(semantics, settings) != "row"),
        reads=reads,
        unit=lambda shape, semantics, settings: _unit(shape, scope(semantics, settings)),
        holds=lambda models, shape, semantics, settings: _bytes(models, shape, scope(semantics, settings)),
    )


gram = gram_of(lambda semantics, settings: settings.get("scope", "tensor"), reads=("scope",))
"""Inner products of the models' tensors, or of whole models with `scope: model`."""


def spread_over(
    coefficients: np.ndarray, shape: tuple[int, ...], scope: Scope, start: int, elements: int
) -> np.ndarray:
    """Return factors [models, elements] of elements from `start` on, which are whole rows, of a tensor of that shape.

    Coefficients are [models], or [rows among the elements, models] by rows, or [all columns, models] by columns.
    """
    models = coefficients.shape[-1]
    if scope == "row":
        factors = np.repeat(coefficients.T, row_length(shape), axis=1)
    elif scope == "column":
        matrices, height, width = as_matrices(shape)
        rows = np.arange(start // width, (start + elements) // width)
        factors = np.moveaxis(coefficients.reshape(matrices, width, models)[rows // height], -1, 0)
    else:
        factors = np.broadcast_to(coefficients[:, None], (models, elements))
    return factors.reshape(models, elements)


@dataclass(frozen=True)
class _RowGrams:
    """Gram matrices of the rows of a block: it holds whole rows, so that nothing is read before."""

    row: int

    def begin(self) -> "_RowGrams":
        return self

    def at(self, block: Block) -> Array:
        out = np.zeros((block.size // self.row, block.models, block.models))
        block.kernels.row_grams(block, out)
        return out


def _column_grams(s: Situation) -> Fold:
    matrices, height, width = as_matrices(s.shape)

    def add(state: np.ndarray, block: Block) -> np.ndarray:
        rows = block.stack.reshape(s.models, -1, width)
        first = block.start // width
        position = 0
        while position < rows.shape[1]:
            matrix, within = divmod(first + position, height)
            end = min(rows.shape[1], position + height - within)
            _add_column_grams(rows[:, position:end].astype(np.float64), state[matrix])
            position = end
        return state

    return Fold(lambda: np.zeros((matrices, width, s.models, s.models)), add, of_one_tensor)


def _add_column_grams(rows: np.ndarray, sums: np.ndarray) -> None:
    for i in range(len(rows)):
        for j in range(i + 1):
            sums[:, i, j] += (rows[i] * rows[j]).sum(axis=0)
            sums[:, j, i] = sums[:, i, j]


def as_matrices(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (matrices, rows, columns) of a tensor as a pile of matrices; a vector is one column."""
    if len(shape) < 2:
        return 1, max(_count(shape), 1), 1
    height, width = max(shape[-2], 1), max(shape[-1], 1)
    return _count(shape) // (height * width), height, width


def _count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _unit(shape: tuple[int, ...], scope: Scope) -> int:
    if scope == "row":
        return row_length(shape)
    return as_matrices(shape)[2] if scope == "column" else 1


def _bytes(models: int, shape: tuple[int, ...], scope: Scope) -> int:
    matrices, _, width = as_matrices(shape)
    # the matrices, and the coefficients that follow from them
    return matrices * width * models * (models + 1) * 8 if scope == "column" else 0
