"""How sure the order of many entries is: the intervals of all their paired differences at once.

The model is that of `cuvee.evaluate.resample`: the items of each task count anew, with half an item for each pair of
answers that was not seen. There the distribution is drawn; here its mean and variance are written down, which are
exact (a weighted mean under a Dirichlet distribution), and the interval is the normal one with them. So a board of a
thousand teams, with half a million pairs, takes a few matrix products, and how two entries compare does not change
because a third one came.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cuvee.evaluate.ranking import rank_ranges
from cuvee.evaluate.resample import UNSEEN
from cuvee.evaluate.statistics import Z
from cuvee.report import Figure

Numbers = NDArray[np.float64]
Items = Mapping[str, Sequence[float]]
"""The main metric of each item, by task, in the order of the task."""


class Bounds(NamedTuple):
    """The first entry (row) minus the second (column): the difference, its standard error and the 95 % interval."""

    value: Numbers
    standard_error: Numbers
    low: Numbers
    high: Numbers


def all_differences(entries: Sequence[Items], weights: Mapping[str, float]) -> Bounds:
    """Compare all entries, which must have the same items, by the weighted average of their tasks."""
    value, middle, variance = (np.zeros((len(entries), len(entries))) for _ in range(3))
    for task, share in _shares(weights).items():
        if not entries:
            break
        scores = np.array([entry[task] for entry in entries], dtype=np.float64)
        n, total, gram = scores.shape[1], scores.sum(axis=1), scores @ scores.T
        gaps = total[:, None] - total[None, :]
        squares = np.maximum(np.diag(gram)[:, None] + np.diag(gram)[None, :] - 2 * gram, 0.0)
        items = n + 4 * UNSEEN
        centre = gaps / items
        value += share * gaps / n
        middle += share * centre
        variance += share**2 * ((squares + 2 * UNSEEN) / items - centre**2) / (items + 1)
    error = np.sqrt(variance)
    low, high = np.minimum(middle - Z * error, value), np.maximum(middle + Z * error, value)
    return Bounds(value, error, low, high)


def ranks(entries: Sequence[Items], weights: Mapping[str, float]) -> tuple[tuple[int, int], ...]:
    """Return the best and the worst plausible rank of each entry."""
    bounds = all_differences(entries, weights)
    return rank_ranges(bounds.low, bounds.high)


def weighted_score(entry: Items, weights: Mapping[str, float]) -> Figure:
    """Average an entry's tasks by weights, with its 95 % interval."""
    value = middle = variance = 0.0
    for task, share in _shares(weights).items():
        scores = np.array(entry[task], dtype=np.float64)
        items = len(scores) + 2 * UNSEEN
        centre = (float(scores.sum()) + UNSEEN) / items
        value += share * float(scores.mean())
        middle += share * centre
        variance += share**2 * ((float(scores @ scores) + UNSEEN) / items - centre**2) / (items + 1)
    width = Z * variance**0.5
    return Figure(value, max(0.0, min(middle - width, value)), min(1.0, max(middle + width, value)))


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    return {task: weight / sum(weights.values()) for task, weight in weights.items() if weight > 0}
