"""How sure the order of many entries is: the intervals of all their paired differences at once.

The model is that of `cuvee.evaluation.resample`: the items of each task count anew, with half an item for each pair of
answers that was not seen. There the distribution is drawn; here its mean and variance are written down, which are
exact (a weighted mean under a Dirichlet distribution), and the interval is the normal one with them. So a board of a
thousand teams, with half a million pairs, takes a few matrix products, and how two entries compare does not change
because a third one came.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cuvee.evaluation.resample import UNSEEN
from cuvee.evaluation.statistics import Z
from cuvee.report import Figure

Numbers = NDArray[np.float64]
Indexes = NDArray[np.intp]
Items = Mapping[str, Sequence[float] | Numbers]
"""The main metric of each item, by task, in the order of the task."""

ROWS_AT_ONCE = 100
"""Entries that are compared with all others at once: with 3000 others a matrix takes 2.4 MB."""


class Bounds(NamedTuple):
    """The first entry (row) minus the second (column): the difference, its standard error and the 95 % interval."""

    value: Numbers
    standard_error: Numbers
    low: Numbers
    high: Numbers


class Scores:
    """The scores of many entries on the same items, kept as a matrix for each task: entries x items."""

    def __init__(self, entries: Sequence[Items], tasks: Iterable[str]) -> None:
        self._count = len(entries)
        self._items: dict[str, Numbers] = {}
        for task in tasks:
            self._items[task] = np.array([entry[task] for entry in entries], dtype=np.float64, ndmin=2)
        self._totals = {task: scores.sum(axis=1) for task, scores in self._items.items()}
        self._squares = {task: np.einsum("ei,ei->e", scores, scores) for task, scores in self._items.items()}

    def differences(self, rows: Indexes, columns: Indexes, weights: Mapping[str, float]) -> Bounds:
        """Compare the entries `rows` with the entries `columns` by the weighted average of their tasks."""
        value, middle, variance = (np.zeros((len(rows), len(columns))) for _ in range(3))
        for task, share in _shares(weights).items():
            scores, total, norm = self._items[task], self._totals[task], self._squares[task]
            n = scores.shape[1]
            gaps = total[rows, None] - total[None, columns]
            products = scores[rows] @ scores[columns].T
            squares = np.maximum(norm[rows, None] + norm[None, columns] - 2 * products, 0.0)
            items = n + 4 * UNSEEN
            centre = gaps / items
            value += share * gaps / n
            middle += share * centre
            variance += share**2 * ((squares + 2 * UNSEEN) / items - centre**2) / (items + 1)
        error = np.sqrt(variance)
        low, high = np.minimum(middle - Z * error, value), np.maximum(middle + Z * error, value)
        return Bounds(value, error, low, high)

    def averages(self, weights: Mapping[str, float]) -> list[Figure]:
        """Average each entry's tasks by weights, with the 95 % intervals, which stay within 0..1."""
        if not self._count:
            return []
        value, middle, variance = (np.zeros(self._count) for _ in range(3))
        for task, share in _shares(weights).items():
            n = self._items[task].shape[1]
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
        ranges: list[tuple[int, int]] = []
        for first in range(0, len(rows), ROWS_AT_ONCE):
            block = rows[first : first + ROWS_AT_ONCE]
            bounds = self.differences(block, rivals, weights)
            others = block[:, None] != rivals[None, :]
            better = np.sum((bounds.high < 0) & others, axis=1)
            worse = np.sum((bounds.low > 0) & others, axis=1)
            ranges += [(1 + int(b), len(rivals) - int(w)) for b, w in zip(better, worse, strict=True)]
        return ranges


def all_differences(entries: Sequence[Items], weights: Mapping[str, float]) -> Bounds:
    """Compare all entries, which must have the same items, by the weighted average of their tasks."""
    everybody = np.arange(len(entries))
    return Scores(entries, _shares(weights)).differences(everybody, everybody, weights)


def ranks(entries: Sequence[Items], weights: Mapping[str, float]) -> tuple[tuple[int, int], ...]:
    """Return the best and the worst plausible rank of each entry."""
    everybody = np.arange(len(entries))
    return tuple(Scores(entries, _shares(weights)).ranks(everybody, everybody, weights))


def weighted_score(entry: Items, weights: Mapping[str, float]) -> Figure:
    """Average an entry's tasks by weights, with its 95 % interval."""
    return Scores([entry], _shares(weights)).averages(weights)[0]


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    return {task: weight / sum(weights.values()) for task, weight in weights.items() if weight > 0}
