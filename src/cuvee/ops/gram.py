"""The Gram matrix of a stack, and geometry in the span of its rows: nothing here needs the tensors again."""

import numpy as np
from array_api_compat import to_device

from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.survey import Constant, Run, Situation, Survey, summing


def _gram(s: Situation) -> Run:
    def add(sums: np.ndarray, stack: np.ndarray, start: int) -> None:
        s.kernels.gram(stack, sums)

    return Constant((yield summing(s.models, add, (s.models,))))


def _gram_whole(stack: Array, s: Situation) -> Array:
    xp = array_namespace(stack)
    rows = xp.reshape(xp.astype(stack, xp.float64), (s.models, -1))
    return np.asarray(to_device(rows @ rows.T, "cpu"))


gram = Survey(
    run=_gram,
    whole=_gram_whole,
    scope=lambda semantics, settings: settings.get("scope", "tensor"),
    passes=lambda semantics, settings: 1,
    reads=("scope",),
)
"""Inner products of the models' tensors, or of whole models with `scope: model`, in float64 and in NumPy: the matrix
is tiny, and what follows from it is worked out on the host."""
