"""Weighted averages over tasks, resampled: in each of many draws the items of every task count anew, task by task.

A draw gives the items of a task random weights that sum to one (Rubin's Bayesian bootstrap, Annals of Statistics 9,
1981); all models share them, so that models are compared on the same items in every draw. Items that were not seen
count a little: half an item for each possible pair of answers, right or wrong, of two models (as Agresti and Min do),
or for both answers of a model alone (Jeffreys' prior). So scores without a single error are not certain, which in a
plain bootstrap they would be. For scores of zero and one the draws of a task follow a Beta distribution exactly.

The draws are a function of the scores and the seed alone, and no order of the models changes them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

DRAWS = 4000
UNSEEN = 0.5
AT_ONCE = 2**20
"""Random numbers made at a time."""


def macro_draws(tasks: Sequence[Matrix], weights: Sequence[float], *, draws: int = DRAWS, seed: int = 0) -> Matrix:
    """Draw the weighted average of each model, [draws, models], from the items' scores, [items, models] for a task.

    Averages that are drawn apart and then joined need seeds of their own: the same seed gives them the same luck.
    """
    models = tasks[0].shape[1]
    order = sorted(range(models), key=lambda model: [scores[:, model].tolist() for scores in tasks])
    share = np.asarray(weights, dtype=np.float64) / sum(weights)
    generator = np.random.default_rng(seed)
    total = np.zeros((draws, models))
    for scores, part in zip(tasks, share, strict=True):
        total[:, order] += part * _task_draws(scores[:, order], draws, generator)
    return total


def interval(draws: Matrix, value: float) -> tuple[float, float]:
    """Return the interval that holds the middle 95 % of the draws, and the value itself."""
    low, high = np.quantile(draws, (0.025, 0.975))
    return min(float(low), value), max(float(high), value)


def share_above(draws: Matrix) -> float:
    """Return the share of the draws above zero."""
    return float(np.mean(draws > 0))


def _task_draws(scores: Matrix, draws: int, generator: np.random.Generator) -> Matrix:
    rows, counts = _with_unseen(scores)
    size = max(1, AT_ONCE // len(rows))
    parts = []
    for start in range(0, draws, size):
        weights = generator.standard_gamma(counts, (min(size, draws - start), len(rows)))
        parts.append(weights @ rows / weights.sum(axis=1, keepdims=True))
    return np.concatenate(parts)


def _with_unseen(scores: Matrix) -> tuple[Matrix, Matrix]:
    """Return the distinct rows of scores and how many items have each, with unseen rows among them."""
    unseen = _all_pairs(scores.shape[1])
    kinds = len(unseen) if scores.shape[1] == 1 else 4
    counts = np.concatenate([np.ones(len(scores)), np.full(len(unseen), UNSEEN * kinds / len(unseen))])
    rows, places = np.unique(np.vstack([scores, unseen]), axis=0, return_inverse=True)
    return rows, np.bincount(places.reshape(-1), weights=counts).astype(np.float64)


def _all_pairs(models: int) -> Matrix:
    """Return rows of zeros and ones in which any two columns hold each of the four pairs equally often.

    They are columns of a Hadamard matrix: an orthogonal array of strength two.
    """
    array = np.zeros((1, 1))
    while array.shape[1] <= models:
        array = np.block([[array, array], [array, 1 - array]])
    return array[:, 1 : models + 1]
