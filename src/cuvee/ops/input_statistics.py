"""Arguments that are statistics of a tensor's inputs: of a model's own inputs on a text.

The engine reads them from the folders that a recipe names under `statistics:`. A rule gets one array a model, read
when it is asked for, so that a single array is in memory at a time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cuvee.ops.arrays import Array


@dataclass(frozen=True)
class InputStatistic:
    """A kind of statistic: the Gram matrix XᵀX/n [in, in] of the inputs, or the means of their absolute values [in]."""

    kind: Literal["gram", "mean_abs"]


gram_of_inputs = InputStatistic("gram")
mean_abs_of_inputs = InputStatistic("mean_abs")


class ReadWhenAsked(Sequence[Array]):
    """One array a model, read anew each time that it is asked for."""

    def __init__(self, reads: Sequence[Callable[[], Array]]) -> None:
        self._reads = tuple(reads)

    def __len__(self) -> int:
        return len(self._reads)

    def __getitem__(self, model: Any) -> Any:
        return self._reads[model]()

    def __iter__(self) -> Iterator[Array]:
        for read in self._reads:
            yield read()


def statistics_in(parameters: Mapping[str, Any]) -> dict[str, InputStatistic]:
    """Return the arguments among a function's parameters, by name, that are annotated as such statistics."""
    found = {}
    for name, parameter in parameters.items():
        for mark in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(mark, InputStatistic):
                found[name] = mark
    return found
