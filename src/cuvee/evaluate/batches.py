"""Batches of rows of about equal length, the longest first: the largest need of memory comes first, not last."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cuvee.errors import RecipeError

BatchSize = int | Literal["auto"]
MAX_ITEMS = 256


def make_batches(
    lengths: Sequence[tuple[int, ...]], costs: Sequence[int], *, batch_size: BatchSize, budget: int
) -> list[list[int]]:
    """Group indices by length. `auto` fills a batch while its items times its largest cost stay within `budget`.

    The batches depend on nothing but the arguments, so a run that continues another meets the same ones.
    """
    most = MAX_ITEMS if batch_size == "auto" else batch_size
    order = sorted(range(len(lengths)), key=lambda index: (*(-size for size in lengths[index]), index))
    batches: list[list[int]] = []
    largest = 0
    for index in order:
        largest = max(largest, costs[index])
        full = not batches or len(batches[-1]) == most
        if full or (batch_size == "auto" and (len(batches[-1]) + 1) * largest > budget):
            batches.append([])
            largest = costs[index]
        batches[-1].append(index)
    return batches


@dataclass(frozen=True)
class Work:
    """Which items to compute: `groups` together as they stand, and the `rest` in batches made of them."""

    groups: tuple[tuple[int, ...], ...]
    rest: tuple[int, ...]

    @property
    def places(self) -> list[int]:
        """Return all items, each once."""
        return sorted({*self.rest, *(place for group in self.groups for place in group)})

    def batches(
        self, lengths: Mapping[int, tuple[int, ...]], costs: Mapping[int, int], *, batch_size: BatchSize, budget: int
    ) -> list[list[int]]:
        """Return the groups, and then batches of the rest; `lengths` and `costs` are by item."""
        made = make_batches(
            [lengths[place] for place in self.rest],
            [costs[place] for place in self.rest],
            batch_size=batch_size,
            budget=budget,
        )
        return [*map(list, self.groups), *([self.rest[place] for place in batch] for batch in made)]


def everything(count: int) -> Work:
    """Compute `count` items, in batches to be made."""
    return Work((), tuple(range(count)))


def check_batch_size(batch_size: object) -> None:
    """Raise unless it is "auto" or a positive number."""
    number = isinstance(batch_size, int) and not isinstance(batch_size, bool) and batch_size > 0
    if batch_size != "auto" and not number:
        raise RecipeError(f"batch size is {batch_size!r}, not 'auto' or a positive number")
