"""Exact order statistics of a stream: the k-th largest of non-negative numbers, by the digits of their bits.

Nothing is sorted or held: the first pass counts the highest digits, the next those of numbers that share the digit in
which the k-th lies, and so on. Numbers whose bits end in the digit are counted apart from the others, so that a k-th
that is among them is known at once: differences of bfloat16 numbers nearly all are. They also repeat so much that the
k-th can be guessed from a few, and counting proves the guess. Rows and groups, which lie whole in a block, are ranked
instead.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from cuvee.kernels import EVERY, ZEROS, Above, Block, Kept, Kernels, block_of
from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.survey import Argument, Fold, Situation, of_one_tensor

DIGITS = {4: ((13, 18), (0, 13)), 8: ((45, 18), (27, 18), (9, 18), (0, 9))}
"""Bytes of a number -> (shift, width) of the digits its magnitude's bits are read in, from the top."""

BRAIN_DIGITS = ((16, 15),)
"""Of numbers that are rounded to bfloat16 the upper half of the bits says it all."""

LOWER_HALF = ((14, 18), (0, 14))

ROWS_AT_ONCE = 64
"""Rows whose digits are counted in one pass: a row's counts take 2 MB, and of a hundred models 200."""

_PART = 512
"""Digits that are summed up together, for a first look at where the k-th lies."""

_GUESSES = 3
_SAMPLE = 4096
_REPEATED = 0.005
"""What share of the numbers must equal the guess to make it worth while."""

Wanted = tuple[int, int]
"""A row of scores and a count k: the k-th largest of that row is sought."""

Scores = Callable[[Block], np.ndarray]
"""Makes rows of scores [rows, n] of a block, in a type to compute in; their signs do not count."""


@dataclass(frozen=True)
class Threshold:
    """Holds of magnitudes above a threshold, and of the first `accept` of those equal to it. A row has its own."""

    threshold: np.ndarray
    accept: np.ndarray
    scores: Scores | None = None

    def begin(self) -> "AboveInOrder":
        return AboveInOrder(Above(self.threshold, self.accept, np.zeros(self.accept.size, np.int64)), self.scores)


class InOrder(ABC):
    """A pass of a choice for which kernels need no mask."""

    @abstractmethod
    def kept(self, block: Block) -> Kept:
        """Return the choice for a block. Who asks goes through the block, once."""

    @abstractmethod
    def at(self, block: Block) -> Array: ...


@dataclass(frozen=True)
class AboveInOrder(InOrder):
    """A pass over the entries above a threshold."""

    above: Above
    scores: Scores | None

    def at(self, block: Block) -> Array:
        scored = _scored(block, self.scores)
        mask = np.empty((scored.models, scored.size), np.bool_)
        block.kernels.keep(scored, self.above, mask)
        return mask

    def kept(self, block: Block) -> Kept:
        return Kept(outer=self.above) if self.scores is None else Kept(self.at(block))


def kept_by(choice: Argument, block: Block) -> Kept:
    """Return a choice of the entries of a block, in the form that costs kernels least."""
    return choice.kept(block) if isinstance(choice, InOrder) else Kept(np.ascontiguousarray(choice.at(block)))


def _scored(block: Block, scores: Scores | None) -> Block:
    return block if scores is None else block_of(scores(block), block.start, block.kernels)


def largest(
    s: Situation, wanted: Sequence[Wanted], scores: Scores | None = None, *, all_equal: bool = False
) -> Generator[Fold, Any, Threshold]:
    """Find the choice of the k largest of each wanted row: of equals the first, or all with `all_equal`."""
    sought = [i for i, (_, count) in enumerate(wanted) if 0 < count < s.elements]
    threshold = np.array([0.0 if count else np.inf for _, count in wanted])
    accept = np.array([EVERY if count else 0 for _, count in wanted])
    if not sought:
        return Threshold(threshold, accept, scores)
    selection = yield from _select(s, [wanted[i] for i in sought], scores, _digits_to_read(s, scores))
    threshold[sought] = selection.magnitudes(s.dtype)
    if not all_equal:
        accept[sought] = selection.remaining
    return Threshold(threshold, accept, scores)


def largest_of_nonzero(s: Situation, count_of: Callable[[int], int], scores: Scores) -> Generator[Fold, Any, Threshold]:
    """Find the choice of the largest scores of a row, of equals the first: so many as of all that are not zero.

    The pass that counts the highest digits also counts zeros. Scores are of the type that is computed in.
    """
    (shift, width), *others = BRAIN_DIGITS if s.dtype.name == "bfloat16" else DIGITS[_itemsize(s.dtype)]
    counts = yield _digits(s, [(0, 0)], scores, shift, width)
    count = count_of(s.elements - int(counts.of_row(0).exact[0]))
    if not 0 < count < s.elements:
        return (yield from largest(s, [(0, count)], scores))
    selection = _Selection([count])
    selection.narrow_down([0], counts, [0], shift)
    yield from _narrow_down(s, selection, [(0, count)], scores, others)
    return Threshold(selection.magnitudes(s.dtype), np.array(selection.remaining), scores)


def no_counts(s: Situation) -> np.ndarray:
    """Return the counts of the highest digits of no scores yet, for `count_highest` and `order_statistics_of_counted`.

    So a pass that makes the scores counts them, too.
    """
    _, width = DIGITS[_itemsize(s.dtype)][0]
    return np.zeros((1, (2 << width) + ZEROS), _counter(s))


def count_highest(s: Situation, scores: np.ndarray, block: Block, counts: np.ndarray) -> None:
    """Count the scores [1, n] of a block."""
    shift, width = DIGITS[_itemsize(s.dtype)][0]
    row = np.zeros(1, np.int64)
    block.kernels.digit_counts(block_of(scores, block.start, block.kernels), row, row, shift, width, counts)


def order_statistics_of_counted(
    s: Situation, places: Sequence[int], counts: np.ndarray, scores: Scores
) -> Generator[Fold, Any, np.ndarray]:
    """Find the k-th largest score for each k, of scores whose highest digits are counted."""
    (shift, _), *others = DIGITS[_itemsize(s.dtype)]
    selection = _Selection(list(places))
    selection.narrow_down(list(range(len(places))), _Counts(counts), [0] * len(places), shift)
    yield from _narrow_down(s, selection, [(0, place) for place in places], scores, others)
    return selection.magnitudes(s.dtype)


def order_statistics(
    s: Situation, wanted: Sequence[Wanted], scores: Scores | None = None
) -> Generator[Fold, Any, np.ndarray]:
    """Find the k-th largest score for each row and k that is wanted."""
    return (yield from _select(s, wanted, scores, _digits_to_read(s, scores))).magnitudes(s.dtype)


def signed_order_statistics(s: Situation, wanted: Sequence[Wanted], scores: Scores) -> Generator[Fold, Any, np.ndarray]:
    """Find the k-th largest score as above, of float32 scores that may be negative."""

    def ordered(block: Block) -> np.ndarray:
        # float64 numbers without sign whose bits are in the order of the scores
        bits = scores(block).view(np.uint32)
        key = np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
        return key.astype(np.uint64).view(np.float64)

    key = np.array((yield from _select(s, wanted, ordered, LOWER_HALF)).bits, np.uint32)
    return np.where(key >> 31, key & np.uint32(0x7FFFFFFF), ~key).view(np.float32).astype(np.float64)


def ranks(numbers: Array) -> Array:
    """Return each entry's place, from 0, from the largest down along the last axis. Of equals the first leads.

    For numbers that are not negative. By its plain definition: `ranks_by` is faster.
    """
    xp = array_namespace(numbers)
    order = xp.argsort(numbers, axis=-1, descending=True, stable=True)
    return xp.argsort(order, axis=-1, stable=True)


Ranks = Callable[[Array], Array]


def ranks_by(kernels: Kernels) -> Ranks:
    """Return the same as `ranks`, with kernels, for NumPy arrays."""

    def ranked(numbers: np.ndarray) -> np.ndarray:
        if numbers.dtype.itemsize == 8:
            return np.asarray(ranks(numbers))
        rows = np.ascontiguousarray(numbers, np.float32).reshape(-1, numbers.shape[-1])
        out = np.empty(rows.shape, np.int32)
        kernels.ranks(rows, out)
        return out.reshape(numbers.shape)

    return ranked


def _digits_to_read(s: Situation, scores: Scores | None) -> Sequence[tuple[int, int]]:
    """Return the digits to read. Scores are not rounded to 16 bits, or need not be."""
    return BRAIN_DIGITS if scores is None and s.dtype.name == "bfloat16" else DIGITS[_itemsize(s.dtype)]


def _itemsize(dtype: np.dtype) -> int:
    """Return the bytes of the numbers whose bits are counted: those of 16 bits are counted as float32."""
    return max(dtype.itemsize, 4)


def _select(
    s: Situation, wanted: Sequence[Wanted], scores: Scores | None, digits: Sequence[tuple[int, int]]
) -> Generator[Fold, Any, "_Selection"]:
    selection = _Selection([count for _, count in wanted])
    is_small = s.dtype.itemsize <= 4 and digits is not LOWER_HALF
    # counts of digits answer for all that share the blocks, a guess for one
    if is_small and not s.whole_model and not s.shared:
        selection.prove((yield _near(s, wanted, scores)))
    yield from _narrow_down(s, selection, wanted, scores, digits)
    return selection


def _narrow_down(
    s: Situation,
    selection: "_Selection",
    wanted: Sequence[Wanted],
    scores: Scores | None,
    digits: Sequence[tuple[int, int]],
) -> Generator[Fold, Any, None]:
    """Read further digits until all that are wanted are found."""
    for shift, width in digits:
        open_ones = [i for i in range(len(wanted)) if not selection.found[i]]
        rows = {i: (wanted[i][0], selection.bits[i] >> (shift + width)) for i in open_ones}
        different = sorted(set(rows.values()))  # several sought of one row begin with the same count
        for first in range(0, len(different), ROWS_AT_ONCE):
            counted = different[first : first + ROWS_AT_ONCE]
            fold = _digits(s, counted, scores, shift, width)
            counts = yield fold if counted == different else replace(fold, question=None)  # else all would be kept
            which = [i for i in open_ones if rows[i] in counted]
            selection.narrow_down(which, counts, [counted.index(rows[i]) for i in which], shift)
            del counts  # before the next are made


class _Selection:
    """The k-th largest magnitudes, found digit by digit from the top of the bit pattern."""

    def __init__(self, counts: list[int]) -> None:
        self.remaining = list(counts)
        self.bits = [0] * len(counts)
        self.found = [False] * len(counts)

    def prove(self, near: "_Near") -> None:
        """Take the guesses over that turn out to be right."""
        for i, (values, counts) in enumerate(zip(near.values, near.counts, strict=True)):
            for value, (above, equal) in zip(values, counts.tolist(), strict=True):
                if above < self.remaining[i] <= above + equal and not self.found[i]:
                    self.found[i], self.bits[i] = True, int(value.view(np.uint32))
                    self.remaining[i] -= above

    def narrow_down(self, which: list[int], counts: "_Counts", rows: list[int], shift: int) -> None:
        """Take the next digit of each of `which`, whose counts are those of its row in `rows`."""
        for i, row in zip(which, rows, strict=True):
            of_row = counts.of_row(row)
            digit, larger = of_row.digit_of(self.remaining[i])
            others = int(of_row.others[digit])
            # within a digit those with more bits set come first
            self.remaining[i] -= larger
            self.found[i] = self.remaining[i] > others
            if self.found[i]:
                self.remaining[i] -= others
            self.bits[i] |= digit << shift

    def magnitudes(self, dtype: np.dtype) -> np.ndarray:
        size = _itemsize(dtype)
        return np.array(self.bits, f"u{size}").view(f"f{size}").astype(np.float64)


@dataclass
class _Counts:
    """How many numbers of each row have which digit: [rows, digits], and zeros in the last places.

    Once all are counted, `of_row` puts the zeros where they belong and sums over parts, once for all who ask.
    """

    table: np.ndarray
    _rows: dict[int, "_RowCounts"] = field(default_factory=dict)

    def of_row(self, row: int) -> "_RowCounts":
        if row not in self._rows:
            counts = self.table[row]
            exact, others = counts[:-ZEROS].reshape(2, -1)
            exact[0] += counts[-ZEROS:].sum(dtype=counts.dtype)
            counts[-ZEROS:] = 0
            self._rows[row] = _RowCounts(exact, others)
        return self._rows[row]


@dataclass(frozen=True)
class _RowCounts:
    """How many numbers of a row have each digit: those whose bits end in it, and the others."""

    exact: np.ndarray
    others: np.ndarray

    def digit_of(self, k: int) -> tuple[int, int]:
        """Return the digit of the k-th largest, and how many have a larger one."""
        from_top = np.cumsum(self._sizes[::-1])
        part = int(np.searchsorted(from_top, k))
        before = int(from_top[part - 1]) if part else 0
        within = sum(counts[len(counts) - 1 - part].astype(np.int64)[::-1] for counts in self._parts)
        place = int(np.searchsorted(before + np.cumsum(within), k))
        return self.exact.size - 1 - part * within.size - place, before + int(within[:place].sum())

    @property
    def _parts(self) -> list[np.ndarray]:
        return [counts.reshape(max(counts.size // _PART, 1), -1) for counts in (self.exact, self.others)]

    @cached_property
    def _sizes(self) -> np.ndarray:
        """The numbers in each part, of both kinds."""
        sizes = sum(counts.sum(axis=1, dtype=counts.dtype).astype(np.int64) for counts in self._parts)
        return np.asarray(sizes)


@dataclass
class _Near:
    """Guesses [rows, GUESSES] at the magnitudes sought, and how many are above and equal [rows, GUESSES, 2]."""

    values: np.ndarray
    counts: np.ndarray
    hopeless: bool = False


def _near(s: Situation, wanted: Sequence[Wanted], scores: Scores | None) -> Fold:
    models = np.array([row for row, _ in wanted])

    def start() -> _Near:
        size = len(wanted), _GUESSES
        return _Near(np.empty(size, np.float32), np.zeros((*size, 2), np.int64))

    def add(near: _Near, block: Block) -> _Near:
        scored = _scored(block, scores)
        if not near.hopeless and block.start == 0:
            shares = [count / s.elements for _, count in wanted]
            near.hopeless = not all(map(_guess, _sample(scored)[models], shares, near.values))
        if not near.hopeless:
            block.kernels.count_near(scored, models, near.values, near.counts)
        return near

    return Fold(start, add, of_one_tensor, lambda near: near.hopeless)


def _sample(block: Block) -> np.ndarray:
    """Return some of a block's magnitudes, spread over it, [rows, n] float32."""
    some = np.ascontiguousarray(block.rows[:, :: max(1, block.size // _SAMPLE)])
    return np.abs(replace(block, rows=some).stack.astype(np.float32))


def _guess(row: np.ndarray, share: float, values: np.ndarray) -> bool:
    """Guess which magnitude the `share` of largest ends with; false where too few repeat for a guess to be right."""
    ordered = np.sort(row)
    place = min(int((1 - share) * ordered.size), ordered.size - 1)
    low, high = np.searchsorted(ordered, ordered[place]), np.searchsorted(ordered, ordered[place], side="right")
    values[:] = ordered[max(low - 1, 0)], ordered[place], ordered[min(high, ordered.size - 1)]
    return bool(high - low > _REPEATED * ordered.size)


def _counter(s: Situation) -> Any:
    # 32 bits hold the count of any tensor that is not absurdly large, and take half the cache
    return np.uint32 if s.elements < 1 << 32 else np.int64


def _digits(s: Situation, rows: Sequence[tuple[int, int]], scores: Scores | None, shift: int, width: int) -> Fold:
    kind = _counter(s)
    models, prefixes = (np.array(column) for column in zip(*rows, strict=True))

    def start() -> _Counts:
        return _Counts(np.zeros((len(rows), (2 << width) + ZEROS), kind))

    def add(counts: _Counts, block: Block) -> _Counts:
        block.kernels.digit_counts(_scored(block, scores), models, prefixes, shift, width, counts.table)
        return counts

    question = None if scores is not None else ("digits", tuple(rows), shift, width, kind)
    return Fold(start, add, lambda a, b: _Counts(a.table + b.table), question=question)
