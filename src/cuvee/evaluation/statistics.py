"""How sure a score is. Every interval is a 95 % interval.

- A mean of zeros and ones: Wilson's interval. Any other mean of scores between 0 and 1, and the weighted average over
  tasks: the middle 95 % of averages whose items are drawn anew within each task (`resample`).
- A difference of two models over the same items of a task, all scores zeros and ones: the normal interval of the mean
  difference with Agresti and Min's half a count in each of the four cells (Statistics in Medicine 24, 2005), which
  does not collapse to a point when the models agree everywhere. Any other difference: resampled, both models together.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from cuvee.errors import EvaluationError
from cuvee.evaluation.report import Report, Score, TaskReport
from cuvee.evaluation.resample import Matrix, interval, macro_draws, share_above

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
class Gap:
    """First model minus second over the same `n` items, with the 95 % interval of the difference.

    `better` is the probability that the first is better on all such items. `won` items have a higher score by the
    first, `lost` items by the second.
    """

    n: int
    value: float
    standard_error: float
    low: float
    high: float
    better: float
    won: int
    lost: int

    @property
    def verdict(self) -> Literal["better", "worse", "tie"]:
        """The verdict of the interval on the first model: a tie if it holds zero."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "tie"

    def to_json(self) -> dict[str, Any]:
        """Return all numbers and the verdict in plain types."""
        return {**asdict(self), "verdict": self.verdict}

    def mirrored(self) -> "Gap":
        """Return second minus first."""
        value, low, high = (0.0 - bound for bound in (self.value, self.high, self.low))
        return Gap(self.n, value, self.standard_error, low, high, 1 - self.better, self.lost, self.won)


@dataclass(frozen=True)
class Difference:
    """First report minus second: of the macro averages, and task by task."""

    macro: Gap
    tasks: dict[str, Gap]

    def to_json(self) -> dict[str, Any]:
        """Return all numbers in plain types."""
        tasks = {name: gap.to_json() for name, gap in self.tasks.items()}
        return {"macro": self.macro.to_json(), "tasks": tasks}

    def mirrored(self) -> "Difference":
        """Return second minus first."""
        return Difference(self.macro.mirrored(), {name: gap.mirrored() for name, gap in self.tasks.items()})


def mean(scores: Sequence[float]) -> Estimate:
    """Estimate the mean of scores between 0 and 1, of which there must be some."""
    values = np.asarray(scores, dtype=np.float64)
    value, error = _mean_and_error(values, LARGEST_DEVIATION)
    if np.isin(values, (0.0, 1.0)).all():
        low, high = _wilson(value, len(values))
    else:
        low, high = interval(macro_draws([values[:, None]], [1.0]), value)
    return Estimate(len(values), value, error, low, high)


def average(tasks: Sequence[Sequence[float]], weights: Sequence[float]) -> Estimate:
    """Estimate the weighted average of several tasks' mean scores."""
    if len(tasks) == 1:
        return mean(tasks[0])
    columns = [np.asarray(scores, dtype=np.float64)[:, None] for scores in tasks]
    value, error = _averaged([_mean_and_error(column, LARGEST_DEVIATION) for column in columns], weights)
    return Estimate(sum(map(len, columns)), value, error, *interval(macro_draws(columns, weights), value))


def difference(first: Sequence[float], second: Sequence[float]) -> Gap:
    """Estimate the mean of first minus second over the same items, both scores between 0 and 1."""
    return average_difference([(first, second)], [1.0])


def average_difference(pairs: Sequence[tuple[Sequence[float], Sequence[float]]], weights: Sequence[float]) -> Gap:
    """Estimate the weighted average of the differences in several tasks."""
    tasks = [np.array(pair, dtype=np.float64).T for pair in pairs]
    gaps = [task[:, 0] - task[:, 1] for task in tasks]
    value, error = _averaged([_mean_and_error(gap, 2 * LARGEST_DEVIATION) for gap in gaps], weights)
    joined = np.concatenate(gaps)
    n, won, lost = len(joined), int((joined > 0).sum()), int((joined < 0).sum())
    drawn = macro_draws(tasks, weights)
    drawn_gaps = drawn[:, 0] - drawn[:, 1]
    if len(tasks) == 1 and np.isin(tasks[0], (0.0, 1.0)).all():
        low, high = _agresti_min(won, lost, n)
    else:
        low, high = interval(drawn_gaps, value)
    return Gap(n, value, error, low, high, share_above(drawn_gaps), won, lost)


def paired_difference(first: Report, second: Report) -> Difference:
    """Compare two reports on the same items of the same tasks. Items without a score are left out in both.

    Raises EvaluationError if the tasks or the scored items are not the same.
    """
    scored = [task for task in first.tasks if task.main]
    partners = [_partner(task, second) for task in scored]
    scored_in_second = [task for task in second.tasks if task.main is not None]
    if not scored or len(scored) != len(scored_in_second):
        raise EvaluationError("the two reports do not score the same tasks")
    pairs = [(scores_of(task), scores_of(partner)) for task, partner in zip(scored, partners, strict=True)]
    macro = average_difference(pairs, [task.weight for task in scored])
    by_task = {}
    for task, (own, other) in zip(scored, pairs, strict=True):
        by_task[task.task] = difference(own, other)
    return Difference(macro, by_task)


def macro_score(tasks: Sequence[TaskReport]) -> Score | None:
    """Average the main scores of the tasks that have any, by the tasks' weights."""
    metrics, scores, weights = set(), [], []
    for task in tasks:
        if task.main:
            metrics.add(task.main.metric)
            scores.append(scores_of(task))
            weights.append(task.weight)
    if not scores:
        return None
    metric = metrics.pop() if len(metrics) == 1 else "mixed"
    return as_score("macro", metric, average(scores, weights))


def as_score(task: str, metric: str, estimate: Estimate) -> Score:
    """Name an estimate."""
    return Score(
        task, metric, estimate.n, estimate.value, estimate.standard_error, low=estimate.low, high=estimate.high
    )


def scores_of(task: TaskReport) -> list[float]:
    """Return the main scores of the items that have a score, in order."""
    return [item.score for item in task.items if item.score is not None]


def _mean_and_error(values: Matrix, largest: float) -> tuple[float, float]:
    """Return the mean and its standard error. A value alone says nothing of the spread, which counts as the largest."""
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else largest
    return float(values.mean()), error


def _averaged(estimates: Sequence[tuple[float, float]], weights: Sequence[float]) -> tuple[float, float]:
    """Return the weighted average of means and its standard error."""
    share = np.asarray(weights, dtype=np.float64) / sum(weights)
    values, errors = np.array(estimates).T
    return float(share @ values), float(np.sqrt(np.sum((share * errors) ** 2)))


def _wilson(share: float, n: int) -> tuple[float, float]:
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    width = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, middle - width), min(1.0, middle + width)


def _agresti_min(won: int, lost: int, n: int) -> tuple[float, float]:
    middle = (won - lost) / (n + 2)
    width = Z * math.sqrt((won + lost + 1) / (n + 2) - middle**2) / math.sqrt(n + 2)
    return max(-1.0, middle - width), min(1.0, middle + width)


def _partner(task: TaskReport, other: Report) -> TaskReport:
    for partner in other.tasks:
        if (partner.task, partner.digest) == (task.task, task.digest):
            if _ids(partner) != _ids(task):
                raise EvaluationError(f"the two reports score different items of task '{task.task}'")
            return partner
    raise EvaluationError(f"task '{task.task}' is not in both reports, or its content differs")


def _ids(task: TaskReport) -> list[str]:
    return [item.id for item in task.items if item.score is not None]
