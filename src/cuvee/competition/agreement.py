"""Do two of many teams agree on wrong answers more than chance lets them?

Where two models are both wrong on an item, they give the same wrong answer with a chance that depends on the item:
sum of f(a)^2 over its wrong answers a, estimated from all pairs of entries that are wrong there, this pair included,
which errs on the side of no alarm. Under the hypothesis that the two answer independently, given that both are wrong,
the number of agreements is a sum of independent draws with these chances (Poisson binomial).

Models of one family are more alike than that: whoever leans on the same parent makes its mistakes. So the scores of
all pairs are centred and scaled by their own median and spread before they are judged (an empirical null: Efron, 2004),
never to a smaller spread than the theory's. This assumes that most pairs are honest. The larger of the two p-values
counts, times the number of pairs (Bonferroni), which holds however pairs depend on each other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Places = NDArray[np.intp]

LEAST_JOINT = 10
"""Pairs with fewer items on which both are wrong are not judged."""

MAD_TO_DEVIATION = 1.4826
"""A normal distribution's standard deviation in median absolute deviations."""

Wrong = Mapping[str, Sequence[str]]
"""By task and item, in order: what was answered if that was wrong, "" if it was right."""


class Agreement(NamedTuple):
    """Two entries, by their places; `p` is corrected for all pairs that were looked at."""

    first: int
    second: int
    joint: int
    agreed: int
    expected: float
    p: float


def agreements(entries: Sequence[Wrong], judged: Sequence[int], *, level: float) -> list[Agreement]:
    """Return the pairs of `judged` entries that agree above chance at a family-wise level, the surest first.

    All entries, which must have the same items, tell how common a wrong answer is.
    """
    table = np.array([_in_a_row(entry) for entry in entries])
    if len(judged) < 2 or not table.size:
        return []
    chance = _chances(table)
    pairs = _pairs(table[list(judged)], chance)
    if not len(pairs.scores):
        return []
    tails = _normal_tails(_standardised(pairs.scores))
    near = []
    for nth in np.nonzero(tails * len(tails) <= level)[0].tolist():
        exact = poisson_binomial_tail(chance[pairs.both_wrong(nth)], int(pairs.agreed[nth]))
        p = max(exact, float(tails[nth])) * len(tails)
        if p <= level:
            near.append(pairs.agreement(nth, judged, p))
    return sorted(near, key=lambda pair: (pair.p, pair.first, pair.second))


@dataclass(frozen=True)
class _Pairs:
    """All pairs that can be judged: two places each, and how they compare. `wrong` is entries x items, 0 or 1."""

    wrong: Numbers
    firsts: Places
    seconds: Places
    joint: Numbers
    agreed: Numbers
    expected: Numbers
    scores: Numbers

    def both_wrong(self, nth: int) -> NDArray[np.bool_]:
        """Tell for each item whether both of a pair are wrong on it."""
        both: NDArray[np.bool_] = (self.wrong[self.firsts[nth]] > 0) & (self.wrong[self.seconds[nth]] > 0)
        return both

    def agreement(self, nth: int, judged: Sequence[int], p: float) -> Agreement:
        """Return a pair as it is reported."""
        first, second = judged[int(self.firsts[nth])], judged[int(self.seconds[nth])]
        return Agreement(first, second, int(self.joint[nth]), int(self.agreed[nth]), float(self.expected[nth]), p)


def _pairs(table: NDArray[np.str_], chance: Numbers) -> _Pairs:
    """Compare all entries by a matrix product for each figure; leave out pairs that nothing can be told of."""
    wrong = (table != "").astype(np.float64)
    joint = wrong @ wrong.T
    expected = (wrong * chance) @ wrong.T
    variance = (wrong * (chance * (1 - chance))) @ wrong.T
    firsts, seconds = np.triu_indices(len(table), 1)
    telling = (joint[firsts, seconds] >= LEAST_JOINT) & (variance[firsts, seconds] > 0)
    firsts, seconds = firsts[telling], seconds[telling]
    agreed = _agreed(table)[firsts, seconds]
    expected = expected[firsts, seconds]
    scores = (agreed - expected) / np.sqrt(variance[firsts, seconds])
    return _Pairs(wrong, firsts, seconds, joint[firsts, seconds], agreed, expected, scores)


def _standardised(scores: Numbers) -> Numbers:
    """Centre and scale scores by their own median and spread; neither ever makes a score larger."""
    median = float(np.median(scores))
    spread = MAD_TO_DEVIATION * float(np.median(np.abs(scores - median)))
    return (scores - max(0.0, median)) / max(1.0, spread)


def _in_a_row(entry: Wrong) -> list[str]:
    answers: list[str] = []
    for task in sorted(entry):
        answers.extend(entry[task])
    return answers


def poisson_binomial_tail(chances: Numbers, at_least: int) -> float:
    """Return the chance that at least so many of independent draws come out, exactly."""
    counts = np.zeros(len(chances) + 1)
    counts[0] = 1.0
    for chance in chances:
        counts[1:] = counts[1:] * (1 - chance) + counts[:-1] * chance
        counts[0] *= 1 - chance
    return float(min(1.0, counts[at_least:].sum()))


def _chances(table: NDArray[np.str_]) -> Numbers:
    """Return for each item how often two entries that are wrong on it give the same answer; 1 where nobody can tell."""
    chances = np.ones(table.shape[1])
    for item, answers in enumerate(table.T):
        _, counts = np.unique(answers[answers != ""], return_counts=True)
        pairs = counts.sum() * (counts.sum() - 1)
        if pairs:
            chances[item] = (counts * (counts - 1)).sum() / pairs
    return chances


def _agreed(table: NDArray[np.str_]) -> Numbers:
    """Count for each pair the items on which both give the same wrong answer."""
    agreed = np.zeros((len(table), len(table)))
    for answers in table.T:
        for answer in np.unique(answers[answers != ""]):
            theirs = np.nonzero(answers == answer)[0]
            if len(theirs) > 1:
                agreed[np.ix_(theirs, theirs)] += 1
    return agreed


def _normal_tails(scores: Numbers) -> Numbers:
    return np.array([0.5 * math.erfc(score / math.sqrt(2)) for score in scores])
