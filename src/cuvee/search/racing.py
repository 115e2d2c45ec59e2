"""Drops a bad candidate after few items, and never a good candidate by looking often.

A candidate and the incumbent, the best of the fully measured, answer the same items. Their difference is compared
with a bound that holds at all sample sizes at once, the normal mixture: H. Robbins, "Statistical methods related to the
law of the iterated logarithm", Annals of Mathematical Statistics 41 (1970); in the form of Howard, Ramdas, McAuliffe
and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49 (2021), eq. 14.
So a look after every block costs nothing. We estimate the variance, within tasks, and add half an item that one of
both alone gets right, so that a run of like answers is no certainty. The estimate knows nothing of a rare large gain
that no item has shown yet: where candidates lose a little everywhere and win much on few items, more are dropped.

The bound is for an incumbent that was not chosen on these items. A search's own is the luckiest of many, so candidates
as good as it look worse, and about a quarter of them are dropped. That costs nothing: with the same answers on all
items they would not have been chosen either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Scores = Mapping[str, Sequence[float]]
"""Scores of one model by task, item by item."""

Q, A = 50, 0.15
"""The bound is tightest near `Q` items; it holds at all looks, on both sides, with probability 1 - `A`.

We drop on one side only and look a finite number of times: an equal candidate is dropped in 3 of 100 runs over 500
items and in 4 of 100 over 2,000, at looks after every 25. With 0.2 it is 5 of 100 over 2,000.
"""

LEAST_ITEMS = 50
UNSEEN = 0.5


@dataclass(frozen=True)
class Race:
    """A look at a candidate.

    `difference` is candidate minus incumbent over the `items` that both have answered, weighted by task,
    `standard_error` its own, and `radius` how far it may be from the truth at any look. `told` is the incumbent's score
    on all items plus the difference: the value for a sampler, as the candidate's raw partial mean depends on
    which items came first.
    """

    drop: bool
    difference: float
    standard_error: float
    radius: float
    told: float
    items: int


@dataclass(frozen=True)
class Paired:
    """The weighted mean difference and its standard errors, plain and widened. Arrays have the runs as their shape."""

    difference: Array
    standard_error: Array
    widened: Array


def decision(
    candidate: Scores, incumbent: Scores, weights: Mapping[str, float], *, least: int = LEAST_ITEMS, span: float = 1.0
) -> Race:
    """Look at a candidate whose scores are the first of the incumbent's items, task by task.

    `incumbent` holds all search items in the order in which candidates meet them. No candidate with fewer than `least`
    items is dropped, nor a candidate that has answered all. `span` is how far apart two scores of an item can be.
    Raises ValueError where the tasks differ, a task has no item yet, or a score is not finite.
    """
    _check(candidate, incumbent, weights)
    differences = [
        np.asarray(candidate[task], dtype=np.float64) - np.asarray(incumbent[task][: len(candidate[task])])
        for task in weights
    ]
    paired = paired_differences(differences, list(weights.values()), span=span)
    items = sum(len(each) for each in differences)
    reach = float(paired.widened) * relative_radius(items)
    whole = items == sum(len(incumbent[task]) for task in weights)
    value = float(paired.difference)
    may_drop = items >= least and not whole
    drop = bool(may_drop and value + reach < 0)
    return Race(drop, value, float(paired.standard_error), reach, weighted_mean(incumbent, weights) + value, items)


def relative_radius(items: int, *, q: float = Q, a: float = A) -> float:
    """Return the bound in standard errors of the mean: r(n) = s * sqrt((n + q) / n^2 * log((n + q) / (q * a^2)))."""
    return float(np.sqrt((items + q) / items * np.log((items + q) / (q * a**2))))


def paired_differences(differences: Sequence[NDArray[Any]], weights: Sequence[float], *, span: float = 1.0) -> Paired:
    """Average differences over tasks. `differences` has one array a task, [*runs, items].

    The variance is that within the tasks, so a candidate that gains on some and loses on others is not called noisy.
    The widened variance counts half an item more, with a difference of `span`, in the task where an item weighs most.
    """
    share = np.asarray(weights, dtype=np.float64) / sum(weights)
    value = np.zeros(differences[0].shape[:-1])
    variance = np.zeros_like(value)
    for task, part in zip(differences, share, strict=True):
        items = task.shape[-1]
        value += part * task.mean(axis=-1)
        variance += part**2 * _spread(task) / items
    heaviest = max(part / task.shape[-1] for task, part in zip(differences, share, strict=True))
    return Paired(value, np.sqrt(variance), np.sqrt(variance + UNSEEN * (heaviest * span) ** 2))


def weighted_mean(scores: Scores, weights: Mapping[str, float]) -> float:
    """Average the tasks' mean scores by their weights."""
    return float(sum(weight * np.mean(scores[task]) for task, weight in weights.items()) / sum(weights.values()))


def _spread(task: NDArray[Any]) -> Array:
    """Return the variance of a task's differences. A single difference says nothing of it; its square stands for it."""
    if task.shape[-1] == 1:
        return np.asarray(task[..., 0] ** 2, dtype=np.float64)
    return np.asarray(task.var(axis=-1, ddof=1), dtype=np.float64)


def _check(candidate: Scores, incumbent: Scores, weights: Mapping[str, float]) -> None:
    shares = weights.values()
    if sum(shares) <= 0 or min(shares) < 0:
        raise ValueError(f"expected a weight for every task, above 0 together, got {dict(weights)}")
    _check_scores("candidate", candidate, weights)
    _check_scores("incumbent", incumbent, weights)
    for task in weights:
        if not 0 < len(candidate[task]) <= len(incumbent[task]):
            raise ValueError(
                f"task '{task}': the candidate has {len(candidate[task])} scores, the incumbent "
                f"{len(incumbent[task])}; expected one at least, and no item that the incumbent has not answered"
            )


def _check_scores(name: str, scores: Scores, weights: Mapping[str, float]) -> None:
    if set(scores) != set(weights):
        raise ValueError(f"the {name} has scores of {sorted(scores)}, the weights are of {sorted(weights)}")
    for values in scores.values():
        if not np.isfinite(values).all():
            raise ValueError(f"a score of the {name} is not a finite number")
