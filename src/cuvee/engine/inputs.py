"""Statistics for one step's tensor, as a rule gets them: of its inputs, read when it asks for them, or of a block."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cuvee.device import TorchDevice
from cuvee.kernels import Block
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

    def of_entries(self, wanted: Wanted) -> dict[str, "EntryNumbers"]:
        """Return for each argument the models' numbers of each entry of the tensor."""
        return {name: EntryNumbers(self._step, self._entries_of(wanted)) for name in wanted}

    def _entries_of(self, wanted: Wanted) -> list[Callable[[int, int], np.ndarray]]:
        """Return what reads entries from a place on, for each model; none if any model has none of this tensor."""
        if not all(self._has_entries(wanted, given) for given in self._step.inputs):
            return []
        own = [self._statistics[given.model] for given in self._step.inputs]
        pairs = zip(own, self._step.inputs, strict=True)
        return [partial(one.fisher, given.tensor) for one, given in pairs if one is not None]

    def _has_entries(self, wanted: Wanted, given: Input) -> bool:
        """Say whether a model has numbers for the entries of a tensor as they stand in its file."""
        own = self._statistics[given.model] if self._statistics else None
        if own is None or given.rows is not None or not self._has(wanted, given):
            return False
        return own.fisher_shape(given.tensor) == self._step.shape

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


@dataclass(frozen=True)
class EntryNumbers:
    """An argument of a rule of entries: the models' numbers for the entries of a block, [models, n], zeros if none."""

    step: MergeStep
    readers: Sequence[Callable[[int, int], np.ndarray]]

    def at(self, block: Block) -> Array:
        """Return the numbers for a block."""
        return self.between(block.start, block.size)

    def whole(self) -> np.ndarray:
        """Return the numbers for the whole tensor, [models, *shape]."""
        return self.between(0, self.step.elements).reshape(-1, *self.step.shape)

    def between(self, start: int, count: int) -> np.ndarray:
        """Return the numbers for `count` entries from `start` on."""
        if not self.readers:
            return np.zeros((len(self.step.inputs), count))
        return np.stack([read(start, count) for read in self.readers])


def entries_of_arrays(step: MergeStep, arrays: Sequence[np.ndarray]) -> EntryNumbers:
    """Return numbers of entries that are given as an array for each model, in the shape of the tensor."""
    flat = [array.reshape(-1) for array in arrays]

    def reader(own: np.ndarray) -> Callable[[int, int], np.ndarray]:
        return lambda start, count: own[start : start + count]

    return EntryNumbers(step, [reader(own) for own in flat])
