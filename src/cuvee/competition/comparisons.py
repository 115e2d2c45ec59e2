"""How sure the order of many entries is: the intervals of all their paired differences at once.

The same formulas as in `cuvee.evaluate.statistics`, written for a matrix of entries by items instead of one pair at a
time: a board of a thousand teams has half a million pairs.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cuvee.evaluate.statistics import Z
from cuvee.report import rank_ranges

Numbers = NDArray[np.float64]
Items = Mapping[str, Sequence[float]]
"""The main metric of each item, by task, in the order of the task."""


class Bounds(NamedTuple):
    """The first entry (row) minus the second (column): middle, its standard error and the 95 % interval's ends."""

    value: Numbers
    standard_error: Numbers
    low: Numbers
    high: Numbers


def all_differences(entries: Sequence[Items], weights: Mapping[str, float]) -> Bounds:
    """Compare all entries, which must have the same items, by the weighted average of their tasks."""
    share = {task: weight / sum(weights.values()) for task, weight in weights.items()}
    shape = (len(entries), len(entries))
    if not entries:
        return Bounds(*(np.zeros(shape) for _ in range(4)))
    value, error, below, above = (np.zeros(shape) for _ in range(4))
    for task, part in share.items():
        one = _task_differences(np.array([entry[task] for entry in entries], dtype=np.float64))
        value += part * one.value
        error += (part * one.standard_error) ** 2
        below += (part * (one.value - one.low)) ** 2
        above += (part * (one.high - one.value)) ** 2
    return Bounds(value, np.sqrt(error), value - np.sqrt(below), value + np.sqrt(above))


def ranks(entries: Sequence[Items], weights: Mapping[str, float]) -> tuple[tuple[int, int], ...]:
    """Return the best and the worst plausible rank of each entry."""
    if not entries:
        return ()
    bounds = all_differences(entries, weights)
    return rank_ranges(bounds.low, bounds.high)


def _task_differences(scores: Numbers) -> Bounds:
    n = scores.shape[1]
    value = scores.mean(axis=1)[:, None] - scores.mean(axis=1)[None, :]
    gram = scores @ scores.T
    squares = np.diag(gram)
    gap_squares = np.maximum(squares[:, None] + squares[None, :] - 2 * gram - n * value**2, 0.0)
    error = np.sqrt(gap_squares / (n - 1) / n) if n > 1 else np.ones_like(value)
    middle, width = value, Z * error
    binary: NDArray[np.bool_] = np.all((scores == 0.0) | (scores == 1.0), axis=1)
    wins = gram.diagonal()[:, None] - gram  # for zeros and ones: where the first is right and the second is not
    losses = wins.T
    counted = (wins - losses) / (n + 2)
    counted_width = Z * np.sqrt(np.maximum((wins + losses + 1) / (n + 2) - counted**2, 0.0)) / np.sqrt(n + 2)
    both = binary[:, None] & binary[None, :]
    middle, width = np.where(both, counted, middle), np.where(both, counted_width, width)
    return Bounds(value, error, np.maximum(-1.0, middle - width), np.minimum(1.0, middle + width))
