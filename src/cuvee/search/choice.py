"""The winner of a search: chosen on items that the search did not see, reported on items that the choice did not see.

`pick` decides on the select items (L) who goes on; only those need to answer the report items (R). `choose` then says
whether the winner beats the anchors, which everybody has without a search: the parents, and recipes with their
defaults. Nothing is decided on R but that.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from cuvee.amounts import points, signed
from cuvee.evaluation.statistics import Estimate, Gap, average, average_difference
from cuvee.search.racing import Scores, weighted_mean

AnchorKind = Literal["parent", "default"]
Role = Literal["runner-up", "best parent", "best default"]
Weights = Mapping[str, float]

HIGHEST = 12.0
"""Standard deviations beyond which no normal number of a search lies."""


@dataclass(frozen=True)
class Pick:
    """Who goes on to the report items. A role is None where nobody has it."""

    winner: str
    runner_up: str | None
    best_parent: str | None
    best_default: str | None

    @property
    def rivals(self) -> tuple[tuple[Role, str], ...]:
        """Return who the winner is compared with."""
        roles: tuple[tuple[Role, str | None], ...] = (
            ("best parent", self.best_parent),
            ("best default", self.best_default),
            ("runner-up", self.runner_up),
        )
        return tuple((role, name) for role, name in roles if name is not None)

    @property
    def reported(self) -> tuple[str, ...]:
        """Return who has to answer the report items."""
        return (self.winner, *(name for _, name in self.rivals))


@dataclass(frozen=True)
class Optimism:
    """How much higher the winner scored where it was found than it does on new items, with the 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Versus:
    """The picked candidate minus another, on the report items."""

    role: Role
    name: str
    gap: Gap


@dataclass(frozen=True)
class Choice:
    """The outcome of a search.

    `picked` is the candidate that is best on the select items; `search`, `select` and `report` are its scores on the
    three parts. `winner` is the recipe to use: `picked`, or an anchor where the search `found` nothing. `luck` is the
    gain of the best of `measured` equally good candidates on the search items by luck alone.
    """

    found: bool
    winner: str
    picked: str
    search: Estimate
    select: Estimate
    report: Estimate
    optimism: Optimism
    luck: float
    measured: int
    against: tuple[Versus, ...]
    verdict: str

    @property
    def deciding(self) -> Versus:
        """Return the comparison with the anchor that is hardest to beat: it decides whether anything was found."""
        return _hardest([versus for versus in self.against if versus.role != "runner-up"])


def pick(
    search: Mapping[str, Scores],
    select: Mapping[str, Scores],
    weights: Weights,
    anchors: Mapping[str, AnchorKind],
    *,
    distances: Mapping[str, float] | None = None,
) -> Pick:
    """Pick the best candidate on the select items. Of equals the nearest to the defaults wins, then the first.

    `search` and `select` hold item scores between 0 and 1 by name, of the finalists and of all anchors; `distances` say
    how far a candidate is from the defaults. The best anchors are those with the highest mean over both parts: more
    items than the candidates are chosen on, as nothing was fitted to them. Raises ValueError without a candidate or an
    anchor.
    """
    candidates = [name for name in select if name not in anchors]
    if not candidates or not anchors:
        raise ValueError(f"expected a candidate and an anchor at least, got {candidates} and {list(anchors)}")
    _check(search, select)
    distances = distances or {}
    values = {name: (-_rounded(select[name], weights), distances.get(name, 0.0)) for name in candidates}
    ranked = sorted(candidates, key=values.__getitem__)
    runner_up = ranked[1] if len(ranked) > 1 else None
    means = {name: _rounded(_joined(search[name], select[name]), weights) for name in anchors}
    return Pick(ranked[0], runner_up, _best(means, anchors, "parent"), _best(means, anchors, "default"))


def choose(
    picked: Pick,
    search: Mapping[str, Scores],
    select: Mapping[str, Scores],
    report: Mapping[str, Scores],
    weights: Weights,
    *,
    report_weights: Weights | None = None,
) -> Choice:
    """Compare the picked candidate with its rivals on the report items.

    `search` holds the item scores of the candidates that answered all search items: luck depends on how many they are
    and how differently they answer. Leave the anchors out: nothing was picked among them, and parents answer so
    differently that luck would look larger than it is. `report_weights` are those of the report part's tasks where
    their names differ. All scores are between 0 and 1.
    """
    _check(search, select, report)
    _check_reported(picked, report)
    own = report_weights or weights
    scores = report[picked.winner]
    against = tuple(Versus(role, name, _gap(scores, report[name], own)) for role, name in picked.rivals)
    winner, verdict = _verdict(picked.winner, against)
    on_search, on_report = _estimate(search[picked.winner], weights), _estimate(scores, own)
    return Choice(
        found=winner == picked.winner,
        winner=winner,
        picked=picked.winner,
        search=on_search,
        select=_estimate(select[picked.winner], weights),
        report=on_report,
        optimism=optimism(on_search, on_report),
        luck=luck_alone(list(search.values()), weights),
        measured=len(search),
        against=against,
        verdict=verdict,
    )


def optimism(search: Estimate, report: Estimate) -> Optimism:
    """Return the score on the search items minus that on new items, of which the report items are an estimate.

    The first is a fixed number: only the possible values of the second on all items make the interval.
    """
    return Optimism(search.value - report.value, search.value - report.high, search.value - report.low)


def luck_alone(search: Sequence[Scores], weights: Weights) -> float:
    """Return the gain by luck of the best of equally good candidates: s * E[max of T normals].

    s is the standard error of a candidate's score beside the others' on the same items: the rest of the scores when
    each item's and each candidate's mean are taken away. Items that are hard for all move all candidates alike, so they
    make nobody lucky.
    """
    if len(search) < 2:
        return 0.0
    variance, total = 0.0, sum(weights.values())
    for task, weight in weights.items():
        scores = np.array([each[task] for each in search], dtype=np.float64)
        variance += (weight / total) ** 2 * _residual_variance(scores) / scores.shape[1]
    return math.sqrt(variance) * expected_maximum(len(search))


@cache
def expected_maximum(count: int) -> float:
    """Return the mean of the largest of `count` independent standard normal numbers."""
    # E[X] is the upper end less the integral of P(X <= x) up to there, where no number lies outside.
    x = np.linspace(-HIGHEST, HIGHEST, 4001)
    below = np.array([0.5 * math.erfc(-each / math.sqrt(2)) for each in x]) ** count
    return HIGHEST - float(np.trapezoid(below, x))


def _residual_variance(scores: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> float:
    """Return the mean square of [candidates, items] without the means of both."""
    candidates, items = scores.shape
    residual = scores - scores.mean(axis=0) - scores.mean(axis=1, keepdims=True) + scores.mean()
    return float(np.sum(residual**2)) / ((candidates - 1) * max(items - 1, 1))


def _verdict(candidate: str, against: Sequence[Versus]) -> tuple[str, str]:
    """Return the recipe to use, and the sentence that says why."""
    anchors = [versus for versus in against if versus.role != "runner-up"]
    hardest = _hardest(anchors)
    if hardest.gap.verdict == "better":
        return candidate, _better(candidate, anchors)
    return hardest.name, _nothing(candidate, hardest)


def _better(winner: str, anchors: Sequence[Versus]) -> str:
    parts = [f"the {versus.role}, {versus.name}, by {_points(versus.gap)}" for versus in anchors]
    gains = " and ".join(parts)
    return f"The search found a better recipe: {winner} beats {gains}, on items that nothing was chosen on."


def _nothing(candidate: str, anchor: Versus) -> str:
    way = "is behind it by" if anchor.gap.verdict == "worse" else "differs from it by"
    gap = anchor.gap.mirrored() if anchor.gap.verdict == "worse" else anchor.gap
    return (
        f"The search found nothing better than the {anchor.role}, {anchor.name}: {candidate} {way} {_points(gap)}, "
        f"on items that nothing was chosen on."
    )


def _points(gap: Gap) -> str:
    value = signed(gap.value) if gap.low < 0 else points(gap.value)
    return f"{value} points (95 % interval {signed(gap.low)} to {signed(gap.high)})"


def _hardest(versus: Sequence[Versus]) -> Versus:
    return min(versus, key=lambda each: each.gap.low)


def _best(means: Mapping[str, float], anchors: Mapping[str, AnchorKind], kind: AnchorKind) -> str | None:
    named = [name for name in anchors if anchors[name] == kind]
    return max(named, key=lambda name: means[name], default=None)


def _rounded(scores: Scores, weights: Weights) -> float:
    """Average the scores, rounded, so that sums in another order do not break a tie."""
    return round(weighted_mean(scores, weights), 12)


def _joined(first: Scores, second: Scores) -> Scores:
    return {task: [*first[task], *second[task]] for task in first}


def _estimate(scores: Scores, weights: Weights) -> Estimate:
    return average([scores[task] for task in weights], list(weights.values()))


def _gap(first: Scores, second: Scores, weights: Weights) -> Gap:
    return average_difference([(first[task], second[task]) for task in weights], list(weights.values()))


def _check(*parts: Mapping[str, Scores]) -> None:
    """Refuse parts whose models answered other items, and scores that are no shares."""
    for part in parts:
        sizes = {_sizes(scores) for scores in part.values()}
        if len(sizes) > 1:
            raise ValueError(f"the models of one part have scores of different items: {sorted(sizes)}")
        for scores in part.values():
            if not all(map(_are_shares, scores.values())):
                raise ValueError("expected scores between 0 and 1")


def _check_reported(picked: Pick, report: Mapping[str, Scores]) -> None:
    missing = [name for name in picked.reported if name not in report]
    if missing:
        raise ValueError(f"no scores on the report items of {', '.join(missing)}")


def _sizes(scores: Scores) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((task, len(values)) for task, values in scores.items()))


def _are_shares(values: Iterable[float]) -> bool:
    array = np.asarray(list(values), dtype=np.float64)
    return bool(np.all((array >= 0) & (array <= 1)))
