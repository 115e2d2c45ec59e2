"""What gap between two entries the items of a competition can tell apart, by simulated competitions.

Nobody has answered yet, so the answers are drawn: an item is as hard for everybody, and beside that each entry has luck
of its own. Two entries of one level then agree on about two items in three. Answers are right or wrong; scores between
zero and one, such as ROUGE, spread less, so for them the gap that is told is an upper bound. The simulated entries are
compared as the board compares real entries.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from cuvee.competition.comparisons import Indexes, Scores

TOLD_APART = 0.8
"""A gap can be told apart if at least so many pairs with it are."""

ALIKE = 0.5
"""The correlation of what makes two entries right on an item (tetrachoric)."""

ENTRIES = 40
MOST_COMPETITIONS, LEAST_COMPETITIONS = 150, 20
MOST_ANSWERS = 6_000_000
"""Answers that are drawn in all, which bounds time and memory where there are very many items."""

STEPS = 12
WIDEST = 0.6
"""A gap of more points than this is said to be one."""


@dataclass(frozen=True)
class Power:
    """`gap` is the smallest true difference that is told apart in 80 % of pairs. `share_first` says how many of so many
    teams, whose true scores lie evenly over `spread`, would stand at rank 1 together in the middle of simulations."""

    items: int
    gap: float
    teams: int
    spread: float
    share_first: int


def power_of(
    items: Mapping[str, int],
    weights: Mapping[str, float],
    *,
    level: float = 0.6,
    teams: int = 40,
    spread: float = 0.1,
    seed: int = 0,
) -> Power:
    """Simulate competitions with so many items a task.

    `level` is the share of items that a middling entry answers, from 0.05 to 0.95; `spread` is in the same unit.
    """
    generator = np.random.default_rng(seed)
    affordable = MOST_ANSWERS // (ENTRIES * max(1, sum(items.values())))
    competitions = min(max(affordable, LEAST_COMPETITIONS), MOST_COMPETITIONS)
    drawn = [_Drawn(items, ENTRIES, generator) for _ in range(competitions)]
    low, high = 0.0, min(WIDEST, 2 * min(level, 1 - level) - 0.02)
    for _ in range(STEPS):
        gap = (low + high) / 2
        share = float(np.mean([_told_apart(each, weights, level, gap) for each in drawn]))
        low, high = (low, gap) if share >= TOLD_APART else (gap, high)
    truths = level + spread * np.linspace(0.5, -0.5, teams)
    first = [_share_first(_Drawn(items, teams, generator), weights, truths) for _ in range(LEAST_COMPETITIONS)]
    return Power(sum(items.values()), high, teams, spread, int(np.median(first)))


def powers_of(
    counts: Mapping[str, Mapping[str, int]],
    weights: Mapping[str, float],
    *,
    level: float = 0.6,
    teams: int = 40,
    spread: float = 0.1,
) -> dict[str, Power]:
    """Simulate competitions on each part that has items: `counts` are those of its tasks, by part.

    Parts with as many items are simulated once.
    """
    powers: dict[str, Power] = {}
    known: dict[tuple[tuple[str, int], ...], Power] = {}
    for part, items in counts.items():
        if not items:
            continue
        key = tuple(sorted(items.items()))
        if key not in known:
            its_weights = {task: weights[task] for task in items}
            known[key] = power_of(items, its_weights, level=level, teams=teams, spread=spread)
        powers[part] = known[key]
    return powers


class _Drawn:
    """What is drawn once and used for every gap, so that a wider gap never tells fewer pairs apart by luck."""

    def __init__(self, items: Mapping[str, int], entries: int, generator: np.random.Generator) -> None:
        self.entries = entries
        self._latent: dict[str, NDArray[np.float64]] = {}
        for task, count in items.items():
            shared, own = generator.normal(size=count), generator.normal(size=(entries, count))
            self._latent[task] = np.sqrt(ALIKE) * shared + np.sqrt(1 - ALIKE) * own

    def scores(self, truths: NDArray[np.float64]) -> Scores:
        """Return the scores of entries that answer these shares of all items right."""
        bars = np.array([NormalDist().inv_cdf(min(max(float(truth), 0.001), 0.999)) for truth in truths])
        answers = {task: (latent < bars[:, None]).astype(float) for task, latent in self._latent.items()}
        entries = [{task: right[number] for task, right in answers.items()} for number in range(self.entries)]
        return Scores(entries, answers)


def _told_apart(drawn: _Drawn, weights: Mapping[str, float], level: float, gap: float) -> float:
    half = drawn.entries // 2
    truths = np.repeat([level + gap / 2, level - gap / 2], half)
    better: Indexes = np.arange(half)
    bounds = drawn.scores(truths).differences(better, better + half, weights)
    return float(np.mean(bounds.low > 0))


def _share_first(drawn: _Drawn, weights: Mapping[str, float], truths: NDArray[np.float64]) -> int:
    everybody: Indexes = np.arange(drawn.entries)
    ranks = drawn.scores(truths).ranks(everybody, everybody, weights)
    return sum(best == 1 for best, _ in ranks)
