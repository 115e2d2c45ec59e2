"""Sums over pairs of task vectors, compiled by numba: one pass over the models' numbers, a tile at a time.

The plain form is the definition in `cuvee.comparison.sums`. Counts are equal; the last digits of the float64 sums may
differ between machines, because the order within a tile is the compiler's.
"""

from typing import Any

import numpy as np

from cuvee.kernels.fused import _compiled, _reordered

TILE = 1024
"""Elements at a time, whose float64 numbers stay in a cache."""


def pair_sums(stack: np.ndarray, square: np.ndarray, gram: np.ndarray, both: np.ndarray, opposite: np.ndarray) -> None:
    """Add the sums over `stack` [1 + models, n], bfloat16 or float32 with the base first, to the last four.

    `square` [1] is the base's squared norm, `gram` [models, models] has inner products of task vectors, `both` counts
    entries that both of two models changed, `opposite` those of them that they changed in opposite directions. Filled
    are the lower triangles.
    """
    if stack.dtype.name == "bfloat16":
        _pair_sums_bf16(stack.view(np.uint16), square, gram, both, opposite)
    else:
        _pair_sums(stack, square, gram, both, opposite)


@_compiled
def _pair_sums_bf16(bits: Any, square: Any, gram: Any, both: Any, opposite: Any) -> None:
    wide = np.empty((bits.shape[0], TILE), np.float64)
    for start in range(0, bits.shape[1], TILE):
        for row in range(len(bits)):
            _widen_bf16(bits[row, start : start + TILE], wide[row])
        _tile_sums(wide, min(TILE, bits.shape[1] - start), square, gram, both, opposite)


@_compiled
def _pair_sums(stack: Any, square: Any, gram: Any, both: Any, opposite: Any) -> None:
    wide = np.empty((stack.shape[0], TILE), np.float64)
    for start in range(0, stack.shape[1], TILE):
        for row in range(len(stack)):
            _widen(stack[row, start : start + TILE], wide[row])
        _tile_sums(wide, min(TILE, stack.shape[1] - start), square, gram, both, opposite)


@_compiled
def _widen_bf16(bits: Any, out: Any) -> None:
    for k in range(bits.size):
        out[k] = np.uint32(np.uint32(bits[k]) << np.uint32(16)).view(np.float32)


@_compiled
def _widen(numbers: Any, out: Any) -> None:
    for k in range(numbers.size):
        out[k] = numbers[k]


@_compiled
def _tile_sums(wide: Any, n: Any, square: Any, gram: Any, both: Any, opposite: Any) -> None:
    square[0] += _pair(wide[0, :n], wide[0, :n])[0]
    for i in range(len(gram)):
        _subtract(wide[i + 1, :n], wide[0, :n])
    for i in range(len(gram)):
        for j in range(i + 1):
            product, shared, against = _pair(wide[i + 1, :n], wide[j + 1, :n])
            gram[i, j] += product
            both[i, j] += shared
            opposite[i, j] += against


@_compiled
def _subtract(delta: Any, base: Any) -> None:
    for k in range(base.size):
        delta[k] -= base[k]


@_reordered
def _pair(a: Any, b: Any) -> Any:
    # differences of float32 are at least 1e-45, so that no product of two vanishes in float64
    total, shared, against = 0.0, 0, 0
    for k in range(a.size):
        product = a[k] * b[k]
        total += product
        shared += product != 0.0
        against += product < 0.0
    return total, shared, against
