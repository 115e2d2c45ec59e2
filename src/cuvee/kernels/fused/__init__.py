"""The kernels compiled by numba: one pass each, no temporary arrays, no lock held.

They serve blocks of bfloat16, float16 and float32 that are computed in float32 or in their own type; the rest goes to
`plain`. numba never fuses a multiplication with an addition unless told to, so the bits equal those of `plain`.
Compiled once and cached: beside these files, or in the user's cache folder where that is read-only, or nowhere if
neither can be written.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.kernels import plain
from cuvee.kernels.block import Block
from cuvee.kernels.fused import choose, merge, softmax, sums
from cuvee.kernels.fused.numbers import known, word, words
from cuvee.kernels.protocol import LANES, ZEROS, Above, Kept

_SINGLE = np.dtype(np.float32)
_Raw = tuple[np.ndarray, int, bool, Any]


def _served(block: Block, *others: np.ndarray) -> bool:
    known_here = known(block.rows.dtype, block.dtype, *(other.dtype for other in others))
    return known_here and block.dtype in (_SINGLE, block.rows.dtype)


def _raw(block: Block) -> _Raw:
    return words(block.rows), block.models, block.subtracts, word(block.dtype)


def _numbers(numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round numbers once, to the type computed in, and hold them as float32."""
    return np.asarray(numbers, dtype).astype(np.float32)


def _number(number: float, dtype: np.dtype) -> Any:
    return np.float32(dtype.type(number))


def _bound(above: Above) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return above.threshold.astype(np.float32), above.accept, above.seen


def _bounds(kept: Kept) -> tuple[np.ndarray, tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    return kept.mask, _bound(kept.outer), _bound(kept.inner)


def _counted(block: Block, out: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Return where the loss of the cast is counted: nowhere, if nothing is cast."""
    return loss[:0] if out.dtype == block.dtype else loss


def finite(raw: np.ndarray) -> bool:
    return bool(sums.finite(words(raw))) if known(raw.dtype) and raw.size else plain.finite(raw)


def widen(block: Block, stack: np.ndarray, base: np.ndarray) -> None:
    if not _served(block) or stack.dtype != _SINGLE:
        return plain.widen(block, stack, base)
    sums.widen(*_raw(block), stack, base)


def combine(block: Block, coefficients: np.ndarray, scale: float, add: bool, out: np.ndarray, loss: np.ndarray) -> None:
    if not _served(block, out):
        return plain.combine(block, coefficients, scale, add, out, loss)
    kind = block.dtype if block.subtracts else _SINGLE
    rows, models, subtracts, _ = _raw(block)
    merge.combine(
        rows,
        models,
        subtracts,
        word(kind),
        _numbers(coefficients, kind),
        np.float32(scale),
        add,
        words(out),
        _counted(block, out, loss),
    )


def weighted_sum(
    block: Block,
    kept: Kept,
    factor: np.ndarray,
    weight: np.ndarray,
    divisor: float,
    scale: float,
    add: bool,
    out: np.ndarray,
    loss: np.ndarray,
) -> None:
    if not _served(block, out):
        return plain.weighted_sum(block, kept, factor, weight, divisor, scale, add, out, loss)
    kind = block.dtype
    merge.weighted_sum(
        *_raw(block), _bounds(kept), _numbers(factor, kind), _numbers(weight, kind), _number(divisor, kind),
        np.float32(scale), add, words(out), _counted(block, out, loss),
    )  # fmt: skip


def elected_sum(
    block: Block,
    kept: Kept,
    factor: np.ndarray,
    weight: np.ndarray,
    weights_vote: bool,
    normalize: bool,
    when_even: float,
    scale: float,
    add: bool,
    out: np.ndarray,
    loss: np.ndarray,
) -> None:
    if not _served(block, out):
        return plain.elected_sum(block, kept, factor, weight, weights_vote, normalize, when_even, scale, add, out, loss)
    kind = block.dtype
    merge.elected_sum(
        *_raw(block), _bounds(kept), _numbers(factor, kind), _numbers(weight, kind), weights_vote, normalize,
        np.float32(when_even), np.float32(scale), add, words(out), _counted(block, out, loss),
    )  # fmt: skip


def keep(block: Block, above: Above, out: np.ndarray) -> None:
    if not _served(block):
        return plain.keep(block, above, out)
    choose.keep(*_raw(block), *_bound(above), out)


def keep_at_random(keys: np.ndarray, density: np.ndarray, start: int, out: np.ndarray) -> None:
    choose.keep_at_random(keys.astype(np.uint32), density.astype(np.float32), np.int64(start), out)


def keep_by_rank(block: Block, chance: np.ndarray, keys: np.ndarray, out: np.ndarray) -> None:
    if not _served(block):
        return plain.keep_by_rank(block, chance, keys, out)
    choose.keep_by_rank(*_raw(block), chance, keys.astype(np.uint32), np.int64(block.start), out)


def divergences(block: Block, epsilon: float, out: np.ndarray) -> None:
    if not _served(block):
        return plain.divergences(block, epsilon, out)
    softmax.divergences(words(block.rows), epsilon, out)


def scaled_distances(block: Block, factors: np.ndarray, out: np.ndarray) -> None:
    if not _served(block, out):
        return plain.scaled_distances(block, factors, out)
    softmax.scaled_distances(words(block.rows), factors, out)


def magnitude_sums(block: Block, kept: Kept, total: np.ndarray) -> None:
    if not _served(block):
        return plain.magnitude_sums(block, kept, total)
    sums.magnitude_sums(*_raw(block), _bounds(kept), total)


def count_near(block: Block, models: np.ndarray, values: np.ndarray, counts: np.ndarray) -> None:
    if not _served(block):
        return plain.count_near(block, models, values, counts)
    rows, _, subtracts, kind = _raw(block)
    choose.count_near(rows, models, subtracts, kind, values, counts)


def gram(block: Block, total: np.ndarray) -> None:
    if not _served(block):
        return plain.gram(block, total)
    sums.gram(*_raw(block), np.int64(0), np.int64(block.size), total)


def row_grams(block: Block, total: np.ndarray) -> None:
    if not _served(block):
        return plain.row_grams(block, total)
    sums.row_grams(*_raw(block), total)


def squares(block: Block, total: np.ndarray) -> None:
    if not _served(block):
        return plain.squares(block, total)
    sums.squares(*_raw(block), total)


def digit_counts(
    block: Block, models: np.ndarray, prefixes: np.ndarray, shift: int, width: int, counts: np.ndarray
) -> None:
    if not _served(block):
        return plain.digit_counts(block, models, prefixes, shift, width, counts)
    rows, _, subtracts, kind = _raw(block)
    if shift + width == 31:
        choose.leading_digits(rows, models, subtracts, kind, np.uint32(shift), counts)
    else:
        above = prefixes.astype(np.uint32)
        choose.further_digits(rows, models, subtracts, kind, above, np.uint32(shift), np.uint32(width), counts)


def cast_loss(values: np.ndarray, base: np.ndarray, cast: np.ndarray, loss: np.ndarray) -> None:
    if known(cast.dtype) and values.dtype == base.dtype == _SINGLE:
        merge.cast_loss(values, base, words(cast), loss)
    else:
        plain.cast_loss(values, base, cast, loss)


def narrow(values: np.ndarray, out: np.ndarray) -> None:
    if known(out.dtype) and values.dtype == _SINGLE:
        merge.narrow(values, words(out))
    else:
        plain.narrow(values, out)


def add_scaled(base: np.ndarray, delta: np.ndarray, scale: float, out: np.ndarray) -> None:
    if base.dtype == delta.dtype == out.dtype == _SINGLE:
        merge.add_scaled(base, np.ascontiguousarray(delta), np.float32(scale), np.float32(0), out)
    else:
        plain.add_scaled(base, delta, scale, out)


def uniform(key: tuple[int, int], start: int, out: np.ndarray) -> None:
    choose.uniform(np.uint32(key[0]), np.uint32(key[1]), np.int64(start), out)


def ranks(rows: np.ndarray, out: np.ndarray) -> None:
    choose.ranks(rows.view(np.uint32), out)


def compiled() -> bool:
    """Say whether an earlier process left the kernels in the cache, or this one has them."""
    function = merge.elected_sum
    folder = Path(function.stats.cache_path or "")
    return bool(function.signatures) or any(folder.glob(f"{Path(merge.__file__).stem}.{function.__name__}-*.nbi"))


def _calls() -> list[Callable[[], None]]:
    """Return one use of the common kernels, for bfloat16 models in float32. Others are compiled when needed."""
    half = np.ones((3, LANES), "bfloat16")
    block = Block(half, 0, _SINGLE, True, plain)
    row, out, two, loss = np.ones(LANES, np.float32), half[0].copy(), np.ones(2), np.zeros(2)
    mask, counts = np.ones((2, LANES), np.bool_), np.zeros((1, (2 << 18) + ZEROS), np.uint32)
    first, both, kept = np.zeros(1, np.int64), np.zeros(2, np.int64), Kept()
    return [
        lambda: _nothing(finite(out)),
        lambda: widen(block, np.empty((2, LANES), np.float32), row),
        lambda: combine(block, two, 1.0, True, out, loss),
        lambda: weighted_sum(block, kept, two, two, 1.0, 1.0, True, out, loss),
        lambda: elected_sum(block, kept, two, two, True, True, 1.0, 1.0, True, out, loss),
        lambda: keep(block, Above(two, both, both), mask),
        lambda: keep_at_random(np.ones((2, 2), np.int64), two, 0, mask),
        lambda: magnitude_sums(block, kept, np.zeros((2, 2))),
        lambda: count_near(block, first, np.ones((1, 3), np.float32), np.zeros((1, 3, 2), np.int64)),
        lambda: gram(block, np.zeros((2, 2))),
        lambda: squares(block, two),
        lambda: digit_counts(block, first, first, 13, 18, counts),
        lambda: digit_counts(block, first, first, 0, 13, counts),
        lambda: cast_loss(row, row, out, loss),
        lambda: narrow(row, out),
        lambda: add_scaled(row, row, 1.0, row),
        lambda: uniform((1, 2), 0, row),
    ]


def _nothing(_: object) -> None:
    pass


KERNELS = len(_calls())
"""How often `warm_up` says that it is done with one."""


def warm_up(done: Callable[[int], None]) -> None:
    """Compile the common kernels, or take them from the cache, one by one."""
    for call in _calls():
        call()
        done(1)
