"""The changes of experts to their base, in the few numbers that rules predict from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True)
class Changes:
    """Experts of one base side by side. Pairs are in the order of `itertools.combinations`.

    - `norms`: the length of each task vector, as a share of the base's norm.
    - `ranks`: effective rank of each expert's matrices, their mean by squared norm.
    - `cosines`, `conflicts`, `overlaps`: of each pair, the cosine of its task vectors, the share of the entries that
      both changed in opposite directions, and how much of the leading directions of their matrices they share.
    - `losses`: of the base and then each expert on the text of each expert [1 + models][texts], nats a token; empty
      where there are no texts.
    """

    models: tuple[str, ...]
    norms: tuple[float, ...]
    ranks: tuple[float, ...]
    cosines: tuple[float, ...]
    conflicts: tuple[float, ...]
    overlaps: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...] = ()

    def of(self, models: Sequence[str]) -> "Changes":
        """Return the changes of some of the models, in this order."""
        places = [self.models.index(name) for name in models]
        pairs = list(combinations(range(len(self.models)), 2))
        wanted = [pairs.index((min(pair), max(pair))) for pair in combinations(places, 2)]
        losses: tuple[tuple[float, ...], ...] = ()
        if self.losses:
            rows = (self.losses[0], *_at(self.losses[1:], places))
            losses = tuple(_at(row, places) for row in rows)
        return Changes(
            tuple(models),
            _at(self.norms, places),
            _at(self.ranks, places),
            _at(self.cosines, wanted),
            _at(self.conflicts, wanted),
            _at(self.overlaps, wanted),
            losses,
        )

    @property
    def cosine(self) -> float:
        """The mean cosine of the pairs."""
        return mean(self.cosines)

    @property
    def unevenness(self) -> float:
        """How many times as long as the shortest task vector the longest is."""
        return max(self.norms) / min(self.norms)

    def ratio(self, place: int) -> float:
        """Return how many times as far as the mean of the others an expert moved."""
        return self.norms[place] / mean([norm for other, norm in enumerate(self.norms) if other != place])


def features_of(changes: Changes) -> Mapping[str, float]:
    """Return the features that rules may predict from, by name; without texts there is no `harm`.

    - `models`: ln of how many there are.
    - `coherence`: ln of (‖Στ‖ / its value for task vectors at right angles)², from the mean cosine.
    - `conflict`, `overlap`: means over the pairs.
    - `unevenness`: ln of the longest over the shortest.
    - `harm`: how much more than its own expert the other experts lose on a text, in nats, mean over both.
    """
    count = len(changes.models)
    features = {
        "models": math.log(count),
        "coherence": math.log(max(1 + (count - 1) * changes.cosine, LEAST_COHERENCE)),
        "conflict": mean(changes.conflicts),
        "overlap": mean(changes.overlaps),
        "unevenness": math.log(changes.unevenness),
    }
    if changes.losses:
        features["harm"] = _harm(changes.losses)
    return features


LEAST_COHERENCE = 0.05
"""Task vectors that cancel out would have none."""


def _harm(losses: Sequence[Sequence[float]]) -> float:
    experts = losses[1:]
    differences = []
    for text in range(len(experts)):
        own = experts[text][text]
        differences += [row[text] - own for place, row in enumerate(experts) if place != text]
    return mean(differences)


def mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def _at(values: Sequence[_T], places: Sequence[int]) -> tuple[_T, ...]:
    """Return the values at these places."""
    return tuple(values[place] for place in places)
