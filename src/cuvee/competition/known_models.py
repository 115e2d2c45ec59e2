"""Models under whatever name: those whose sketches point the same way are one, also with a little noise on a copy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NEAR = 0.99
"""The cosine of two sketches from which two models count as the same. Two experts of one skill are far below it."""

GROUND = "the ground"
"""The name of the model that others are sketched against."""


class KnownModels:
    """Names for models by their sketches. State: a sketch for each name."""

    def __init__(self) -> None:
        self._sketches: list[np.ndarray] = []
        self._named: dict[tuple[float, ...], str] = {}

    def names(self, likeness: Mapping[str, Any] | None) -> dict[str, str]:
        """Return what the models of a submission are called here, by its own words for them."""
        if likeness is None or not likeness["layout"]:
            return {}
        return {reference: self._name(sketch) for reference, sketch in likeness.get("models", {}).items()}

    def _name(self, sketch: Sequence[float]) -> str:
        if not sketch:
            return GROUND
        numbers = tuple(sketch)
        if numbers not in self._named:
            self._named[numbers] = f"model {self._nearest(np.array(numbers))}"
        return self._named[numbers]

    def _nearest(self, sketch: np.ndarray) -> int:
        """Return the number of the first known model that is near; a new one for a model that nobody has had."""
        for number, known in enumerate(self._sketches):
            if float(known @ sketch) > NEAR:
                return number
        self._sketches.append(sketch)
        return len(self._sketches) - 1
