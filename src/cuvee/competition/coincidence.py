"""How probable is it that two teams come to the same recipe, number by number, on their own?

A recipe is a row of free choices: its shape, and a value for each setting. How often two teams choose alike is
counted over all pairs of teams, for the shape, and over all pairs of values of a setting, one that all others share
being no evidence. The product of these shares is the chance of a coincidence, as far as choices are independent of each
other. Equal values that a recipe repeats for a setting are one choice. The result is times the number of pairs of teams
that were looked at (Bonferroni).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from cuvee.competition.recipe_shape import Shape

ALIKE = 0.01
"""Values within this share of the larger one count as the same choice: a person gives two or three digits."""

MOST_VALUES = 2000
"""Values of a setting that all pairs are counted of, the last ones."""


class Coincidences:
    """How often teams choose alike, from one list of shapes for each team."""

    def __init__(self, teams: Sequence[Sequence[Shape]]) -> None:
        self._pairs = len(teams) * (len(teams) - 1) // 2
        shapes: Counter[str] = Counter()
        values: dict[str, list[float]] = {}
        for own in teams:
            shapes.update({shape.text for shape in own})
            for key, value in sorted(set(chain.from_iterable(map(_choices, own)))):
                values.setdefault(key, []).append(value)
        self._shapes = shapes
        self._values: Mapping[str, np.ndarray] = {key: np.array(own[-MOST_VALUES:]) for key, own in values.items()}

    def chance(self, one: Shape, other: Shape) -> float:
        """Return the chance that any two teams come as near as two recipes of one shape, whose numbers are near."""
        alike = self._shapes[one.text]
        share = self._share(alike * (alike - 1) // 2, self._pairs)
        for key, first, second in sorted(set(zip(one.keys, one.numbers, other.numbers, strict=True))):
            share *= self._as_near(key, first, second)
        return min(1.0, share * max(1, self._pairs))

    def _as_near(self, key: str, first: float, second: float) -> float:
        """Return how often two values of a setting are in the place of two given ones."""
        values = self._values.get(key, np.array([]))
        middle = (first + second) / 2
        near = np.abs(values - middle) <= ALIKE * max(abs(first), abs(second))
        return self._share(int(near.sum()) - 1, len(values) - 1)

    @staticmethod
    def _share(count: int, of: int) -> float:
        """Return a share that is never 0: what was not seen may be."""
        return (max(count, 0) + 1) / (max(of, 0) + 1)


def _choices(shape: Shape) -> set[tuple[str, float]]:
    return set(zip(shape.keys, shape.numbers, strict=True))
