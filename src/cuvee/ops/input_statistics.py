"""Arguments that are statistics of a model on a text: of a tensor's inputs, or of the tensor's entries.

The engine reads them from the folders that a recipe names under `statistics:`. A rule of whole matrices gets one array
a model, read when it is asked for, so that a single array is in memory at a time. A rule of entries gets those of its
block, [models, n].
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cuvee.ops.arrays import Array


@dataclass(frozen=True)
class InputStatistic:
    """A kind of statistic.

    It is the Gram matrix XᵀX/n [in, in] of the inputs, the means of their absolute values [in], or the diagonal of the
    Fisher information in the shape of the tensor.
    """

    kind: Literal["gram", "mean_abs", "fisher"]


gram_of_inputs = InputStatistic("gram")
mean_abs_of_inputs = InputStatistic("mean_abs")
fisher_of_entries = InputStatistic("fisher")


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
