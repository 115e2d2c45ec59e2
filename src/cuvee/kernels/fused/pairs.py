"""Sums over pairs of task vectors: one pass over the models' numbers, in float64, a tile at a time.

The plain form is the definition in `cuvee.comparison.sums`. Counts are equal; the last digits of the sums may differ
between machines, because the order within a tile is the compiler's.
"""

from typing import Any

from cuvee.kernels.fused.numbers import compiled, load, reordered
from cuvee.kernels.fused.words import TILE


@compiled
def pair_sums(rows: Any, square: Any, gram: Any, both: Any, opposite: Any, wide: Any) -> None:
    """Add the sums over `rows` [1 + models, n], words with the base first, to the four arguments that follow.

    `square` [1] is the base's squared norm, `gram` [models, models] has inner products of task vectors, `both` counts
    entries that both of two models changed, `opposite` those of them that they changed in opposite directions. Filled
    are the lower triangles. `wide` [1 + models, TILE] float64 is room.
    """
    for start in range(0, rows.shape[1], TILE):
        n = min(TILE, rows.shape[1] - start)
        for row in range(len(rows)):
            _widen(rows[row, start : start + n], wide[row])
        _tile_sums(wide, n, square, gram, both, opposite)


@compiled
def _widen(words: Any, out: Any) -> None:
    for k in range(words.size):
        out[k] = load(words[k])


@compiled
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


@compiled
def _subtract(delta: Any, base: Any) -> None:
    for k in range(base.size):
        delta[k] -= base[k]


@reordered
def _pair(a: Any, b: Any) -> Any:
    # differences of float32 are at least 1e-45, so that no product of two vanishes in float64
    total, shared, against = 0.0, 0, 0
    for k in range(a.size):
        product = a[k] * b[k]
        total += product
        shared += product != 0.0
        against += product < 0.0
    return total, shared, against
