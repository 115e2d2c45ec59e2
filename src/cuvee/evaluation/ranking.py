"""Several models in order: which ranks are plausible, who is tied, and who may be the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cuvee.errors import EvaluationError
from cuvee.evaluation.report import Report, Score
from cuvee.evaluation.resample import macro_draws
from cuvee.evaluation.statistics import Difference, paired_difference, scores_of


@dataclass(frozen=True)
class Standing:
    """A report's place, by its macro average: `first` and `last` are its best and worst plausible ranks.

    `tied` are the positions, in the order given, of the reports that cannot be told apart from it. `best` is the
    probability that it is the best of all.
    """

    position: int
    macro: Score
    first: int
    last: int
    tied: tuple[int, ...]
    best: float

    @property
    def rank(self) -> str:
        """The rank as people write it: 4, or 2–5 where the order is not clear."""
        return str(self.first) if self.first == self.last else f"{self.first}–{self.last}"


@dataclass(frozen=True)
class Ranking:
    """Standings by falling macro average, equals in the order given; `differences[i][j]` is report i minus j."""

    standings: tuple[Standing, ...]
    differences: tuple[tuple[Difference, ...], ...]

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Return ranks, and how the first model differs from each of the others, in plain types."""
        ranks = [
            {
                "model": names[standing.position],
                "macro": standing.macro.figures(),
                "rank": [standing.first, standing.last],
                "probability_best": standing.best,
                "tied": [names[position] for position in standing.tied],
            }
            for standing in self.standings
        ]
        others = [
            {"first": names[0], "second": name, **gaps.to_json()}
            for name, gaps in zip(names[1:], self.differences[0][1:], strict=True)
        ]
        return {"ranks": ranks, "differences": others}


def rank(reports: Sequence[Report]) -> Ranking:
    """Rank reports on the same items of the same tasks. Raises EvaluationError if they are not on the same.

    A model is placed below another only where the interval of their paired difference excludes zero.
    """
    macros = [report.macro for report in reports if report.macro is not None]
    if len(macros) < len(reports):
        raise EvaluationError("a report without scores cannot be ranked")
    differences = _all_differences(reports)
    low, high = [], []
    for row in differences:
        low.append([gap.macro.low for gap in row])
        high.append([gap.macro.high for gap in row])
    ranges, best = rank_ranges(low, high), _best(reports)
    standings = []
    for i, macro in enumerate(macros):
        first, last = ranges[i]
        standings.append(Standing(i, macro, first, last, _tied(i, low, high), best[i]))
    standings.sort(key=lambda standing: -standing.macro.value)
    return Ranking(tuple(standings), differences)


def rank_ranges(lows: ArrayLike, highs: ArrayLike) -> tuple[tuple[int, int], ...]:
    """Compute the best and worst plausible rank of each entry from the intervals of all paired differences.

    `lows[i][j]` and `highs[i][j]` bound the score of entry i minus that of entry j; the diagonal is ignored. An entry
    is clearly better than another where the whole interval is above zero. A NaN bound makes nothing clear.
    """
    low, high = np.asarray(lows, dtype=np.float64), np.asarray(highs, dtype=np.float64)
    is_square = low.ndim == 2 and low.shape[0] == low.shape[1]
    if not is_square or low.shape != high.shape:
        raise ValueError(f"expected two square matrices of one size, got {low.shape} and {high.shape}")
    others = ~np.eye(len(low), dtype=bool)
    if np.any((low > high) & others):
        raise ValueError("an interval has its lower bound above its upper bound")
    clearly_better = np.sum((high < 0) & others, axis=1)
    clearly_worse = np.sum((low > 0) & others, axis=1)
    return tuple(
        (1 + int(better), len(low) - int(worse)) for better, worse in zip(clearly_better, clearly_worse, strict=True)
    )


def _all_differences(reports: Sequence[Report]) -> tuple[tuple[Difference, ...], ...]:
    places = range(len(reports))
    differences: dict[tuple[int, int], Difference] = {}
    for i in places:
        for j in places[i:]:
            differences[i, j] = paired_difference(reports[i], reports[j])
            differences.setdefault((j, i), differences[i, j].mirrored())
    return tuple(tuple(differences[i, j] for j in places) for i in places)


def _tied(i: int, low: Sequence[Sequence[float]], high: Sequence[Sequence[float]]) -> tuple[int, ...]:
    others = [j for j in range(len(low)) if j != i]
    return tuple(j for j in others if low[i][j] <= 0 <= high[i][j])


def _best(reports: Sequence[Report]) -> list[float]:
    """Return each report's share of the draws in which it is the best."""
    columns, weights = [], []
    for task in reports[0].tasks:
        if task.main:
            scores = [scores_of(report.task(task.task)) for report in reports]
            columns.append(np.array(scores).T)
            weights.append(task.weight)
    winners = macro_draws(columns, weights).argmax(axis=1)
    return [float(np.mean(winners == i)) for i in range(len(reports))]
