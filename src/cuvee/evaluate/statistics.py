"""How sure a score is. Every interval is one of 95 %, from a formula: no random numbers.

- A mean of zeros and ones: Wilson's interval. Any other mean of scores between 0 and 1: the normal interval, within
  [0, 1].
- A difference of two models over the same items: the normal interval of the mean difference. Where both scores are
  zeros and ones, with Agresti and Min's half a count in each of the four cells (Statistics in Medicine 24, 2005),
  which does not collapse to a point when the models agree everywhere.
- A weighted average over tasks: the distances from the value to both ends of the tasks' intervals, combined as
  independent errors (Zou and Donner, Statistics in Medicine 27, 2008). It keeps the asymmetry near 0 and 1, where plain
  variances would give an average of perfect scores no width at all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cuvee.errors import EvaluationError
from cuvee.evaluate.report import Report, Score, TaskReport

Z = 1.959963984540054  # the normal distribution's 97.5 % point
LARGEST_DEVIATION = 0.5  # no scores between 0 and 1 spread more


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error and its 95 % interval, from `n` items."""

    n: int
    value: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """First report minus second: of the macro averages, and task by task."""

    macro: Estimate
    tasks: dict[str, Estimate]


def mean(scores: Sequence[float]) -> Estimate:
    """Estimate the mean of scores between 0 and 1. There must be one at least."""
    values = np.asarray(scores, dtype=np.float64)
    n, value = len(values), float(values.mean())
    error = _standard_error(values, LARGEST_DEVIATION)
    if np.isin(values, (0.0, 1.0)).all():
        low, high = _wilson(value, n)
    else:
        low, high = max(0.0, value - Z * error), min(1.0, value + Z * error)
    return Estimate(n, value, error, low, high)


def average(estimates: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """Estimate a weighted average of independent estimates."""
    share = np.asarray(weights, dtype=np.float64) / sum(weights)
    value, error, low, high = (
        np.array([getattr(estimate, name) for estimate in estimates])
        for name in ("value", "standard_error", "low", "high")
    )
    middle = float(share @ value)
    return Estimate(
        n=sum(estimate.n for estimate in estimates),
        value=middle,
        standard_error=_root_of_squares(share * error),
        low=middle - _root_of_squares(share * (value - low)),
        high=middle + _root_of_squares(share * (high - value)),
    )


def difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Estimate the mean of first minus second over the same items, both scores between 0 and 1."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    gaps = a - b
    value, error = float(gaps.mean()), _standard_error(gaps, 2 * LARGEST_DEVIATION)
    middle, width = value, Z * error
    if np.isin((a, b), (0.0, 1.0)).all():
        middle, width = _agresti_min(int((gaps > 0).sum()), int((gaps < 0).sum()), len(gaps))
    return Estimate(len(gaps), value, error, max(-1.0, middle - width), min(1.0, middle + width))


def paired_difference(first: Report, second: Report) -> Difference:
    """Compare two reports on the same items of the same tasks. Items without a score are left out in both.

    Raises EvaluationError if the tasks or the scored items are not the same.
    """
    pairs = [(task, _partner(task, second)) for task in first.tasks if task.main]
    if not pairs or len(pairs) != sum(task.main is not None for task in second.tasks):
        raise EvaluationError("the two reports do not score the same tasks")
    tasks = {task.task: difference(_scores(task), _scores(partner)) for task, partner in pairs}
    return Difference(average(list(tasks.values()), [task.weight for task, _ in pairs]), tasks)


def macro_score(tasks: Sequence[TaskReport]) -> Score | None:
    """Average the main scores of the tasks that have one, by the tasks' weights."""
    scored = [(task.main, task.weight) for task in tasks if task.main]
    if not scored:
        return None
    names = sorted({score.metric for score, _ in scored})
    estimate = average([_estimate(score) for score, _ in scored], [weight for _, weight in scored])
    return as_score("macro", names[0] if len(names) == 1 else "mixed", estimate)


def as_score(task: str, metric: str, estimate: Estimate) -> Score:
    """Name an estimate."""
    return Score(
        task, metric, estimate.n, estimate.value, estimate.standard_error, low=estimate.low, high=estimate.high
    )


def _estimate(score: Score) -> Estimate:
    return Estimate(score.n, score.value, score.standard_error, score.low, score.high)


def _standard_error(values: "np.ndarray[tuple[int], np.dtype[np.float64]]", largest: float) -> float:
    """One value alone says nothing of the spread; it counts as the largest there can be."""
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else largest


def _wilson(share: float, n: int) -> tuple[float, float]:
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    width = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, middle - width), min(1.0, middle + width)


def _agresti_min(wins: int, losses: int, n: int) -> tuple[float, float]:
    middle = (wins - losses) / (n + 2)
    return middle, Z * math.sqrt((wins + losses + 1) / (n + 2) - middle**2) / math.sqrt(n + 2)


def _root_of_squares(parts: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    return float(np.sqrt(np.sum(parts**2)))


def _partner(task: TaskReport, other: Report) -> TaskReport:
    for partner in other.tasks:
        if (partner.task, partner.digest) == (task.task, task.digest):
            if _ids(partner) != _ids(task):
                raise EvaluationError(f"the two reports score different items of task '{task.task}'")
            return partner
    raise EvaluationError(f"task '{task.task}' is not in both reports, or its content differs")


def _ids(task: TaskReport) -> list[str]:
    return [item.id for item in task.items if item.score is not None]


def _scores(task: TaskReport) -> list[float]:
    return [item.score for item in task.items if item.score is not None]
