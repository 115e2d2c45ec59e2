"""How sure the order of many entries is: the intervals of all their paired differences at once.

The model is that of `cuvee.evaluation.resample`: the items of each task count anew, with half an item for each pair of
answers that was not seen. There the distribution is drawn; here its mean and variance are written down, which are
exact (a weighted mean under a Dirichlet distribution), and the interval is the normal one with them. So a board of a
thousand teams, with half a million pairs, takes a few matrix products, and how two entries compare does not change
because a third one came.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cuvee.evaluation.resample import UNSEEN
from cuvee.evaluation.statistics import Z
from cuvee.report import Figure

Numbers = NDArray[np.float64]
Indexes = NDArray[np.intp]
Items = Mapping[str, Sequence[float] | Numbers]
"""The main metric of each item, by task, in the order of the task."""

ROWS_AT_ONCE = 32
"""Entries that are compared with all others at once: with 3000 others a matrix takes 0.8 MB, which a cache holds."""

ALL = slice(None)


Result = TypeVar("Result")


def on_the_newest_items(
    results: Sequence[Result], number: Callable[[Result], int], items: Callable[[Result], Items]
) -> list[Result]:
    """Leave out what was scored on other items than the newest: it cannot be compared before it is judged again.

    `number` and `items` return the number of a result's submission, and its items.
    """
    if not results:
        return []
    counts = item_counts(items(max(results, key=number)))
    return [result for result in results if item_counts(items(result)) == counts]


def item_counts(items: Items) -> dict[str, int]:
    """Return how many items of each task were scored: scores with equal counts are of the same items."""
    return {task: len(scores) for task, scores in items.items()}


class Bounds(NamedTuple):
    """The first entry (row) minus the second (column): the difference, its standard error and the 95 % interval."""

    value: Numbers
    standard_error: Numbers
    low: Numbers
    high: Numbers


class Terms(NamedTuple):
    """What each entry brings to a difference by some weights: the value, the middle of the interval, its variance.

    The first two of a difference are those of its first entry minus those of its second. Its variance is the sum of
    both entries' minus twice what they share, which is made of products: of the items by `of_items`, and of the totals
    by `of_totals`, by task.
    """

    value: Numbers
    middle: Numbers
    variance: Numbers
    of_items: Mapping[str, float]
    of_totals: Mapping[str, float]


class Scores:
    """The scores of many entries on the same items, kept as a matrix for each task: entries x (items and their total).

    With n items of a task, `share` of the weights and gaps g between two entries, that task adds to the variance of the
    difference share² ((Σg² + 2 UNSEEN) / N - (Σg / N)²) / (N + 1), where N is n + 4 UNSEEN.
    """

    def __init__(self, entries: Sequence[Items], tasks: Iterable[str]) -> None:
        self._count = len(entries)
        self._items: dict[str, Numbers] = {}
        self._totals: dict[str, Numbers] = {}
        self._squares: dict[str, Numbers] = {}
        for task in tasks:
            items = len(entries[0][task]) if entries else 0
            matrix = np.empty((self._count, items + 1))
            for row, entry in zip(matrix, entries, strict=True):
                row[:-1] = entry[task]
            scores = matrix[:, :-1]
            matrix[:, -1] = scores.sum(axis=1)
            self._items[task], self._totals[task] = matrix, matrix[:, -1]
            matrix.flags.writeable = False
            self._squares[task] = np.einsum("ei,ei->e", scores, scores)

    def items_of(self, entry: int) -> dict[str, Numbers]:
        """Return the scores of an entry's items, by task: parts of the matrices, which cannot be written."""
        return {task: matrix[entry, :-1] for task, matrix in self._items.items()}

    def differences(self, rows: Indexes, columns: Indexes, weights: Mapping[str, float]) -> Bounds:
        """Compare the entries `rows` with the entries `columns` by the weighted average of their tasks."""
        return self._differences(rows, columns, self._terms(weights))

    def _terms(self, weights: Mapping[str, float]) -> Terms:
        value, middle, variance = (np.zeros(self._count) for _ in range(3))
        of_items, of_totals = {}, {}
        for task, share in _shares(weights).items():
            total, norm = self._totals[task], self._squares[task]
            n = self._items[task].shape[1] - 1
            items = n + 4 * UNSEEN
            of_items[task] = share**2 / (items * (items + 1))
            of_totals[task] = of_items[task] / items
            value += share / n * total
            middle += share / items * total
            variance += of_items[task] * (norm + UNSEEN) - of_totals[task] * total**2
        return Terms(value, middle, variance, of_items, of_totals)

    def _differences(self, rows: Indexes, columns: Indexes | slice, terms: Terms) -> Bounds:
        value = terms.value[rows, None] - terms.value[None, columns]
        middle = terms.middle[rows, None] - terms.middle[None, columns]
        variance = terms.variance[rows, None] + terms.variance[None, columns]
        for task, of_items in terms.of_items.items():
            left = 2 * of_items * self._items[task][rows]
            left[:, -1] = -2 * terms.of_totals[task] * self._totals[task][rows]
            variance -= left @ self._items[task][columns].T
        error = np.sqrt(variance, out=variance)
        reach = Z * error
        low, high = middle - reach, np.add(middle, reach, out=middle)
        return Bounds(value, error, np.minimum(low, value, out=low), np.maximum(high, value, out=high))

    def averages(self, weights: Mapping[str, float]) -> list[Figure]:
        """Average each entry's tasks by weights, with the 95 % intervals, which stay within 0..1."""
        if not self._count:
            return []
        value, middle, variance = (np.zeros(self._count) for _ in range(3))
        for task, share in _shares(weights).items():
            n = self._items[task].shape[1] - 1
            items = n + 2 * UNSEEN
            centre = (self._totals[task] + UNSEEN) / items
            value += share * self._totals[task] / n
            middle += share * centre
            variance += share**2 * ((self._squares[task] + UNSEEN) / items - centre**2) / (items + 1)
        error = np.sqrt(variance)
        low, high = np.minimum(middle - Z * error, value), np.maximum(middle + Z * error, value)
        low, high = np.maximum(low, 0.0), np.minimum(high, 1.0)
        return [Figure(*figure) for figure in zip(value.tolist(), low.tolist(), high.tolist(), strict=True)]

    def ranks(self, rows: Indexes, rivals: Indexes, weights: Mapping[str, float]) -> list[tuple[int, int]]:
        """Return the best and the worst plausible rank of the entries `rows` among `rivals`, of which they are some."""
        terms = self._terms(weights)
        is_rival = np.zeros(self._count, dtype=bool)
        is_rival[rivals] = True
        ranges: list[tuple[int, int]] = []
        for first in range(0, len(rows), ROWS_AT_ONCE):
            bounds = self._differences(rows[first : first + ROWS_AT_ONCE], ALL, terms)
            better = np.count_nonzero((bounds.high < 0) & is_rival, axis=1)
            worse = np.count_nonzero((bounds.low > 0) & is_rival, axis=1)
            ranges += [(1 + int(b), len(rivals) - int(w)) for b, w in zip(better, worse, strict=True)]
        return ranges


def all_differences(entries: Sequence[Items], weights: Mapping[str, float]) -> Bounds:
    """Compare all entries, which must have the same items, by the weighted average of their tasks."""
    everybody = np.arange(len(entries))
    return Scores(entries, _shares(weights)).differences(everybody, everybody, weights)


def ranks(entries: Sequence[Items], weights: Mapping[str, float]) -> tuple[tuple[int, int], ...]:
    """Return the best and the worst plausible rank of each entry; nothing where there is none."""
    if not entries:
        return ()
    everybody = np.arange(len(entries))
    return tuple(Scores(entries, _shares(weights)).ranks(everybody, everybody, weights))


def weighted_score(entry: Items, weights: Mapping[str, float]) -> Figure:
    """Average an entry's tasks by weights, with its 95 % interval."""
    return Scores([entry], _shares(weights)).averages(weights)[0]


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    return {task: weight / sum(weights.values()) for task, weight in weights.items() if weight > 0}
