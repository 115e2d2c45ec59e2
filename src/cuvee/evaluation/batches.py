"""Batches of rows of about equal length. The largest need of memory comes first, not last."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from cuvee.errors import RecipeError

BatchSize = int | Literal["auto"]
MAX_ITEMS = 256


@dataclass(frozen=True)
class Unit:
    """Items that are computed together: their places, their lengths and their cost."""

    places: tuple[int, ...]
    length: tuple[int, ...]
    cost: int


def make_batches(units: Sequence[Unit], *, batch_size: BatchSize, budget: int) -> list[list[int]]:
    """Group units of like length, and return the places of each group's items; the largest groups come first.

    A batch has at most `batch_size` items. `auto` fills it while its units times their largest cost stay within
    `budget`. The batches depend on nothing but the arguments, so a run that continues another meets the same batches.
    """
    most = MAX_ITEMS if batch_size == "auto" else batch_size
    batches: list[list[Unit]] = []
    items = largest = 0  # of the last batch
    for unit in sorted(units, key=_longest_first):
        items += len(unit.places)
        largest = max(largest, unit.cost)
        cost = (len(batches[-1]) + 1) * largest if batches else 0
        is_full = items > most or (batch_size == "auto" and cost > budget)
        if not batches or is_full:
            batches.append([unit])
            items, largest = len(unit.places), unit.cost
        else:
            batches[-1].append(unit)
    batches.sort(key=_needed, reverse=True)
    return [list(chain.from_iterable(unit.places for unit in batch)) for batch in batches]


def _longest_first(unit: Unit) -> tuple[Any, ...]:
    return (*(-size for size in unit.length), unit.places)


def _needed(batch: Sequence[Unit]) -> int:
    return len(batch) * max((unit.cost for unit in batch), default=0)


@dataclass(frozen=True)
class Work:
    """Which items to compute: `groups` together as they stand, and the `rest` in batches made of them."""

    groups: tuple[tuple[int, ...], ...]
    rest: tuple[int, ...]

    @property
    def places(self) -> list[int]:
        """Return all items, each once."""
        return sorted({*self.rest}.union(*self.groups))

    def batches(self, units: Sequence[Unit], *, batch_size: BatchSize, budget: int) -> list[list[int]]:
        """Return the groups, and then batches of the units that the rest was put into."""
        return [*map(list, self.groups), *make_batches(units, batch_size=batch_size, budget=budget)]


def everything(count: int) -> Work:
    """Compute `count` items, in batches to be made."""
    return Work((), tuple(range(count)))


def check_batch_size(batch_size: object) -> None:
    """Raise unless it is "auto" or a positive number."""
    if batch_size == "auto":
        return
    if type(batch_size) is not int or batch_size < 1:
        raise RecipeError(f"batch size is {batch_size!r}, not 'auto' or a positive number")
