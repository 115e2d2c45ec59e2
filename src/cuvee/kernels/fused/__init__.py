"""The kernels compiled by numba: one pass each, no temporary arrays, no lock held.

They serve blocks of bfloat16, float16 and float32 that are computed in float32 or in their own type; the rest goes to
`plain`. numba never fuses a multiplication with an addition unless told to, so the bits equal those of `plain`.
Compiled once and kept: beside these files, or in the user's cache folder where that is read-only, or nowhere if
neither can be written. Only who compiles imports numba.
"""

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from cuvee.kernels import plain
from cuvee.kernels.fused import native
from cuvee.kernels.fused.native import call, is_kept
from cuvee.kernels.fused.words import BUCKETS, LISTED, STREAMS, TILE, known, word, words
from cuvee.kernels.program import Place, Program
from cuvee.kernels.protocol import LANES, ZEROS, Above, Block, Kept

_SINGLE, _DOUBLE, _WORD = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.uint32)
_LINE = 64
"""Bytes of a line of the processor's cache."""
_KEPT_ROOM = 1 << 16
"""Bytes of room up to which a thread keeps it for the next call."""

_own = threading.local()
_SCOPES = {"tensor": 0, "row": 1, "column": 2}
_Raw = tuple[np.ndarray, int, bool, Any]


def _room(rows: int) -> np.ndarray:
    return _on_lines((rows, TILE), _SINGLE, "room")


def _lanes(*shape: int) -> np.ndarray:
    lanes = _on_lines((*shape, LANES), _DOUBLE, "lanes")
    lanes[:] = 0
    return lanes


def _on_lines(shape: tuple[int, ...], dtype: np.dtype, use: str = "") -> np.ndarray:
    """Return room that begins a line of the processor's cache: vectors that lie across two lines are slow.

    It is the thread's own, and the next call for the same use takes it back.
    """
    rooms: dict[Any, np.ndarray] = _own.__dict__.setdefault("rooms", {})
    key = use, shape, dtype
    room = rooms.get(key)
    if room is not None:
        return room
    nbytes = math.prod(shape) * dtype.itemsize
    raw = np.empty(nbytes + _LINE, np.uint8)
    begin = -raw.ctypes.data % _LINE
    room = raw[begin : begin + nbytes].view(dtype).reshape(shape)
    if nbytes <= _KEPT_ROOM:
        rooms[key] = room
    return room


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
    if not (known(raw.dtype) and raw.size):
        return plain.finite(raw)
    found = np.empty(1, np.bool_)
    call("sums.finite", words(raw), found)
    return bool(found[0])


def widen(block: Block, stack: np.ndarray, base: np.ndarray) -> None:
    if not _served(block) or stack.dtype != _SINGLE:
        return plain.widen(block, stack, base)
    call("sums.widen", *_raw(block), stack, base)


def combine(block: Block, coefficients: np.ndarray, scale: float, add: bool, out: np.ndarray, loss: np.ndarray) -> None:
    if not _served(block, out):
        return plain.combine(block, coefficients, scale, add, out, loss)
    kind = block.dtype if block.subtracts else _SINGLE
    rows, models, subtracts, _ = _raw(block)
    call(
        "merge.combine", rows, models, subtracts, word(kind), _numbers(coefficients, kind), np.float32(scale), add,
        words(out), _counted(block, out, loss), _room(2),
    )  # fmt: skip


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
    call(
        "merge.weighted_sum", *_raw(block), _bounds(kept), _numbers(factor, kind), _numbers(weight, kind),
        _number(divisor, kind), np.float32(scale), add, words(out), _counted(block, out, loss), _room(4),
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
    call(
        "merge.elected_sum", *_raw(block), _bounds(kept), _numbers(factor, kind), _numbers(weight, kind), weights_vote,
        normalize, np.float32(when_even), np.float32(scale), add, words(out), _counted(block, out, loss),
        _room(5 + block.models),
    )  # fmt: skip


def keep(block: Block, above: Above, out: np.ndarray) -> None:
    if not _served(block):
        return plain.keep(block, above, out)
    call("choose.keep", *_raw(block), *_bound(above), out, _room(2))


def keep_at_random(keys: np.ndarray, density: np.ndarray, start: int, out: np.ndarray) -> None:
    call("choose.keep_at_random", keys.astype(np.uint32), density.astype(np.float32), start, out, _room(1)[0])


def keep_by_rank(block: Block, chance: np.ndarray, keys: np.ndarray, out: np.ndarray) -> None:
    if not _served(block):
        return plain.keep_by_rank(block, chance, keys, out)
    length = chance.shape[1]
    call(
        "choose.keep_by_rank", *_raw(block), chance, keys.astype(np.uint32), block.start, out,
        _on_lines((3, length), _SINGLE), _on_lines((2, length), _WORD, "words"),
        _on_lines((4, length + LISTED), _WORD, "lists"), _on_lines((STREAMS + 2, BUCKETS + 1), _WORD, "counts"),
        _on_lines((BUCKETS + 1,), _SINGLE, "least"), np.empty(256, np.int64),
    )  # fmt: skip


def variances(block: Block, out: np.ndarray) -> None:
    if not _served(block, out):
        return plain.variances(block, out)
    call("sums.variances", *_raw(block), words(out), _room(2 + block.models))


def divergences(block: Block, epsilon: float, out: np.ndarray) -> None:
    if not _served(block):
        return plain.divergences(block, epsilon, out)
    room = _on_lines((3, block.size // max(out.size, 1)), _DOUBLE, "rows")
    call("softmax.divergences", words(block.rows), epsilon, out, room, _on_lines((16,), _DOUBLE, "lanes"))


def scaled_distances(block: Block, factors: np.ndarray, out: np.ndarray) -> None:
    if not _served(block, out):
        return plain.scaled_distances(block, factors, out)
    call("softmax.scaled_distances", words(block.rows), factors, out)


def take(block: Block, mask: np.ndarray, out: np.ndarray) -> None:
    if not _served(block, out):
        return plain.take(block, mask, out)
    call("merge.take", words(block.rows), mask, words(out))


def magnitude_sums(block: Block, kept: Kept, total: np.ndarray) -> None:
    if not _served(block):
        return plain.magnitude_sums(block, kept, total)
    lanes = _lanes(2, block.models)
    call("sums.magnitude_sums", *_raw(block), _bounds(kept), total, _room(3), lanes)


def count_near(block: Block, models: np.ndarray, values: np.ndarray, counts: np.ndarray) -> None:
    if not _served(block):
        return plain.count_near(block, models, values, counts)
    rows, _, subtracts, kind = _raw(block)
    call("choose.count_near", rows, models, subtracts, kind, values, counts, _room(2))


def _pairs(models: int) -> tuple[np.ndarray, np.ndarray]:
    return _room(models + 1), _lanes(models, models)


def gram(block: Block, total: np.ndarray) -> None:
    if not _served(block):
        return plain.gram(block, total)
    call("sums.gram", *_raw(block), 0, block.size, total, *_pairs(block.models))


def row_grams(block: Block, total: np.ndarray) -> None:
    if not _served(block):
        return plain.row_grams(block, total)
    call("sums.row_grams", *_raw(block), total, *_pairs(block.models))


def squares(block: Block, kept: Kept, total: np.ndarray, *, rounds: bool = False) -> None:
    if not _served(block):
        return plain.squares(block, kept, total, rounds=rounds)
    rounds = rounds and block.dtype.itemsize == 2
    call("sums.squares", *_raw(block), _bounds(kept), rounds, total, _room(3), _lanes(block.models))


def digit_counts(
    block: Block, models: np.ndarray, prefixes: np.ndarray, shift: int, width: int, counts: np.ndarray
) -> None:
    if not _served(block):
        return plain.digit_counts(block, models, prefixes, shift, width, counts)
    rows, _, subtracts, kind = _raw(block)
    if shift + width == 31:
        places = _on_lines((TILE,), _WORD)
        call("choose.leading_digits", rows, models, subtracts, kind, np.uint32(shift), counts, _room(2), places)
    else:
        bits = np.uint32(shift), np.uint32(width)
        above = prefixes.astype(np.uint32)
        marks, places = _on_lines((TILE,), _WORD, "marks"), _on_lines((TILE + LISTED,), _WORD, "places")
        call("choose.further_digits", rows, models, subtracts, kind, above, *bits, counts, _room(2), marks, places)


def cast_loss(values: np.ndarray, base: np.ndarray, cast: np.ndarray, loss: np.ndarray) -> None:
    if known(cast.dtype) and values.dtype == base.dtype == _SINGLE:
        call("merge.cast_loss", values, base, words(cast), loss)
    else:
        plain.cast_loss(values, base, cast, loss)


def narrow(values: np.ndarray, out: np.ndarray) -> None:
    if known(out.dtype) and values.dtype == _SINGLE:
        call("merge.narrow", values, words(out))
    else:
        plain.narrow(values, out)


def round_to(numbers: np.ndarray, dtype: np.dtype) -> None:
    if known(dtype) and numbers.size:
        call("merge.round_to", numbers, word(dtype))
    else:
        plain.round_to(numbers, dtype)


def add_scaled(base: np.ndarray, delta: np.ndarray, scale: float, out: np.ndarray) -> None:
    if base.dtype == delta.dtype == out.dtype == _SINGLE:
        call("merge.add_scaled", base, np.ascontiguousarray(delta), np.float32(scale), np.float32(0), out)
    else:
        plain.add_scaled(base, delta, scale, out)


def uniform(key: tuple[int, int], start: int, out: np.ndarray) -> None:
    call("choose.uniform", np.uint32(key[0]), np.uint32(key[1]), start, out)


def ranks(rows: np.ndarray, out: np.ndarray) -> None:
    orders, places = np.empty((2, rows.shape[1]), np.uint32), np.empty(256, np.int64)
    call("choose.ranks", rows.view(np.uint32), out, orders, places)


def compute(block: Block, program: Program, place: Place, kept: np.ndarray, total: np.ndarray, out: np.ndarray) -> None:
    if not (known(block.rows.dtype, kept.dtype, out.dtype) and block.rows.dtype == block.dtype):
        return plain.compute(block, program, place, kept, total, out)
    width = block.size if program.scope == "tensor" else place.width
    call(
        "steps.compute", words(block.rows), word(block.dtype), program.steps, program.constants,
        _SCOPES[program.scope], width, place.matrices, words(kept), total, words(out), _room(program.registers),
        _lanes(program.sums),
    )  # fmt: skip


def pair_sums(stack: np.ndarray, square: np.ndarray, gram: np.ndarray, both: np.ndarray, opposite: np.ndarray) -> None:
    """Add the sums over pairs of models [1 + models, n] of a type that is `known`, as `pairs.pair_sums` says."""
    call("pairs.pair_sums", words(stack), square, gram, both, opposite, np.empty((len(stack), TILE)))


def compile_seconds() -> float:
    return native.compile_seconds()


def compiled() -> bool:
    """Say whether an earlier process left the kernels in a cache, or this one has them."""
    return is_kept("merge.elected_sum")


def _calls() -> list[Callable[[], None]]:
    """Return a single use of the common kernels, for bfloat16 models in float32. Others are compiled when needed."""
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
        lambda: squares(block, kept, two),
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
    """Compile the common kernels, or take them from the cache, in turn."""
    for use in _calls():
        use()
        done(1)
