"""Exact order statistics of a stream: the k-th largest of non-negative numbers, by the digits of their bits.

Nothing is sorted or held: the first pass counts the highest digits, the next those of numbers that share the digit in
which the k-th lies, and so on. Rows and groups, which lie whole in a block, are ranked instead.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cuvee.kernels import for_blocks
from cuvee.ops.arrays import Array, along_models, array_namespace
from cuvee.ops.survey import Fold, Situation

EVERY = np.iinfo(np.int64).max

DIGITS = {4: ((16, 15), (0, 16)), 8: ((48, 15), (32, 16), (16, 16), (0, 16))}
"""Bytes of a number -> (shift, width) of the digits its magnitude's bits are read in, from the top."""

LOWER_HALF = ((16, 16), (0, 16))

Wanted = tuple[int, int]
"""A row of scores and a count k: the k-th largest of that row is sought."""

Scores = Callable[[np.ndarray, int], np.ndarray]
"""Makes rows of scores [rows, n] of a block and its first element's index, in the type that is computed in; their signs
do not count."""


@dataclass(frozen=True)
class Above:
    """Holds of magnitudes above a threshold, and of those equal to it up to an index. One of each a row."""

    threshold: np.ndarray
    last_equal: np.ndarray

    def at(self, stack: np.ndarray, start: int) -> Array:
        if (kernels := for_blocks(stack)) is not None:
            keep = np.empty(stack.shape, np.bool_)
            kernels.keep_above(stack, self.threshold, self.last_equal, start, keep)
            return keep
        threshold = along_models(self.threshold, stack)
        magnitude = np.abs(stack)
        index = np.arange(start, start + stack.shape[1])
        late = (magnitude == threshold) & (index > self.last_equal[:, None])
        return ~((magnitude < threshold) | late)  # what is not a number is kept, and seen in the result


def magnitudes(stack: np.ndarray, start: int) -> np.ndarray:
    """Score the entries by themselves."""
    return stack


def largest(
    s: Situation, wanted: Sequence[Wanted], scores: Scores = magnitudes, *, all_equal: bool = False
) -> Generator[Fold, Any, Above]:
    """Find what holds of the k largest of each row that is wanted: of equal ones the first, or all with `all_equal`."""
    sought = [i for i, (_, count) in enumerate(wanted) if 0 < count < s.elements]
    threshold = np.array([0.0 if count else np.inf for _, count in wanted])
    last_equal = np.full(len(wanted), EVERY)
    if not sought:
        return Above(threshold, last_equal)
    ask = [wanted[i] for i in sought]
    selection = yield from _select(s, ask, scores, DIGITS[s.dtype.itemsize])
    threshold[sought] = selection.magnitudes(s.dtype)
    if not all_equal and selection.cuts_through_equals:
        places = yield _places_of_equals(s, ask, scores, threshold[sought], selection.remaining)
        last_equal[sought] = [place if place >= 0 else EVERY for place, _ in places]
    return Above(threshold, last_equal)


def order_statistics(
    s: Situation, wanted: Sequence[Wanted], scores: Scores = magnitudes
) -> Generator[Fold, Any, np.ndarray]:
    """Find the k-th largest score for each row and k that is wanted."""
    return (yield from _select(s, wanted, scores, DIGITS[s.dtype.itemsize])).magnitudes(s.dtype)


def signed_order_statistics(s: Situation, wanted: Sequence[Wanted], scores: Scores) -> Generator[Fold, Any, np.ndarray]:
    """Find the k-th largest score as above, of float32 scores that may be negative."""

    def ordered(stack: np.ndarray, start: int) -> np.ndarray:
        # float64 numbers without sign whose bits are in the order of the scores
        bits = scores(stack, start).view(np.uint32)
        key = np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
        return key.astype(np.uint64).view(np.float64)

    key = np.array((yield from _select(s, wanted, ordered, LOWER_HALF)).prefix, np.uint32)
    return np.where(key >> 31, key & np.uint32(0x7FFFFFFF), ~key).view(np.float32).astype(np.float64)


def ranks(numbers: Array) -> Array:
    """Return each entry's place, from 0, from the largest down along the last axis. Of equal ones the first leads.

    For numbers that are not negative.
    """
    if (kernels := for_blocks(numbers)) is not None and numbers.dtype == np.float32:
        out = np.empty(numbers.shape, np.int32)
        kernels.ranks(numbers, out)
        return out
    xp = array_namespace(numbers)
    order = xp.argsort(numbers, axis=-1, descending=True, stable=True)
    return xp.argsort(order, axis=-1, stable=True)


def _select(
    s: Situation, wanted: Sequence[Wanted], scores: Scores, digits: Sequence[tuple[int, int]]
) -> Generator[Fold, Any, "_Selection"]:
    selection = _Selection([count for _, count in wanted])
    for shift, width in digits:
        selection.narrow_down((yield _digits(s, wanted, scores, selection.prefix, shift, width)), width)
    return selection


class _Selection:
    """The k-th largest magnitudes, found digit by digit from the top of the bit pattern."""

    def __init__(self, counts: list[int]) -> None:
        self.remaining = list(counts)
        self.prefix = [0] * len(counts)
        self.equal = [0] * len(counts)

    def narrow_down(self, counts: np.ndarray, width: int) -> None:
        for i, row in enumerate(counts):
            from_top = np.cumsum(row[::-1])
            place = int(np.searchsorted(from_top, self.remaining[i]))
            digit = row.size - 1 - place
            self.remaining[i] -= int(from_top[place] - row[digit])
            self.equal[i] = int(row[digit])
            self.prefix[i] = (self.prefix[i] << width) | digit

    def magnitudes(self, dtype: np.dtype) -> np.ndarray:
        return np.array(self.prefix, f"u{dtype.itemsize}").view(dtype).astype(np.float64)

    @property
    def cuts_through_equals(self) -> bool:
        # at magnitude zero it makes no difference which entries are kept
        kept_some = zip(self.remaining, self.equal, self.prefix, strict=True)
        return any(remaining < equal and prefix for remaining, equal, prefix in kept_some)


def _digits(s: Situation, wanted: Sequence[Wanted], scores: Scores, prefix: list[int], shift: int, width: int) -> Fold:
    def add(state: np.ndarray, stack: np.ndarray, start: int) -> np.ndarray:
        rows = scores(stack, start)
        for i, (row, _) in enumerate(wanted):
            s.kernels.digit_counts(rows[row], prefix[i], shift, width, state[i])
        return state

    return Fold(lambda: np.zeros((len(wanted), 1 << width), np.int64), add, lambda a, b: a + b)


def _places_of_equals(
    s: Situation, wanted: Sequence[Wanted], scores: Scores, threshold: np.ndarray, remaining: list[int]
) -> Fold:
    def add(state: list[tuple[int, int]], stack: np.ndarray, start: int) -> list[tuple[int, int]]:
        rows = scores(stack, start)
        result = []
        for i, (place, seen) in enumerate(state):
            here, count = s.kernels.nth_equal(rows[wanted[i][0]], float(threshold[i]), remaining[i] - seen)
            result.append((place if place >= 0 or here < 0 else start + here, seen + count))
        return result

    def merge(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> list[tuple[int, int]]:
        raise AssertionError("places are those of one tensor")

    return Fold(lambda: [(-1, 0)] * len(wanted), add, merge)
