"""Statistics of the inputs of one step's tensor, as a rule gets them: read when it asks for them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cuvee.device import TorchDevice
from cuvee.ops.arrays import Array
from cuvee.ops.input_statistics import InputStatistic, ReadWhenAsked
from cuvee.plan.plan import Input, MergeStep
from cuvee.statistics import Statistics

Wanted = Mapping[str, InputStatistic]
"""Names of a rule's arguments, and what they are to be."""


class InputNumbers:
    """The numbers of the models' statistics for a tensor's inputs, on the device where it is merged."""

    def __init__(self, step: MergeStep, statistics: Sequence[Statistics | None], device: TorchDevice | None) -> None:
        self._step, self._statistics, self._device = step, statistics, device

    def of_models(self, wanted: Wanted) -> dict[str, Any]:
        """Return for each argument an array for each model, in the order of the step."""
        return {
            name: ReadWhenAsked([self._reader(statistic, given) for given in self._step.inputs])
            for name, statistic in wanted.items()
        }

    def of_base(self, wanted: Wanted) -> dict[str, Any] | None:
        """Return each argument's array of the base; None where the base has no statistics of this tensor."""
        if not wanted:
            return {}
        base = self._step.base
        if base is None or not self._has(wanted, base):
            return None
        return {name: self._read(statistic, base) for name, statistic in wanted.items()}

    def _has(self, wanted: Wanted, given: Input) -> bool:
        own = self._statistics[given.model] if self._statistics else None
        if own is None:
            return False
        return all(own.has(statistic.kind, given.tensor) for statistic in wanted.values())

    def _reader(self, statistic: InputStatistic, given: Input) -> Callable[[], Array]:
        return partial(self._read, statistic, given)

    def _read(self, statistic: InputStatistic, given: Input) -> Array:
        own = self._statistics[given.model]
        assert own is not None, "a plan merges no matrix whose statistics are missing"
        numbers: np.ndarray = own.gram(given.tensor) if statistic.kind == "gram" else own.mean_abs(given.tensor)
        return numbers if self._device is None else self._device.take(numbers)
